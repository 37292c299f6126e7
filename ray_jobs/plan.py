"""Job: tell hours, nodes and cost of a conversion from a short run on the corpus itself.

    hemo plan --config conf/convert/rsna.yaml --source /data/rsna --price_per_node_hour 0.68
    ray job submit --working-dir . -- python -m ray_jobs.plan --config conf/plan/rsna.yaml --source s3://bucket/rsna

Takes what `convert` takes. Prints a table on standard error and writes `plan.json` below `out`, nothing else.
"""

from collections.abc import Sequence

from hemo.cluster.convert.plan import plan_conversion
from hemo.cluster.session import connected
from hemo.config.convert import PlanConfig
from hemo.config.load import load_config
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(PlanConfig, argv, job="plan", summary="Tell hours, nodes and cost of a conversion.")
    with connected(config.cluster):
        print(plan_conversion(config))


if __name__ == "__main__":
    main()
