"""Job: make a synthetic head-CT corpus in the layout of RSNA 2019, faults included.

    hemo phantom --out data/phantom --slices 600 --seed 0
    ray job submit --working-dir . -- python -m ray_jobs.phantom --config conf/phantom/demo.yaml --out s3://bucket/phantom

Writes `stage_2_train/ID_*.dcm`, `stage_2_train.csv` and `phantom.json` under `out`. Safe to run again: a complete
corpus is left alone.
"""

from collections.abc import Sequence

from hemo.cluster.phantom import make_phantom
from hemo.cluster.session import connected
from hemo.config.load import load_config
from hemo.config.phantom import PhantomConfig
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(
        PhantomConfig, argv, job="phantom", summary="Make a synthetic head-CT corpus in RSNA's layout."
    )
    with connected(config.cluster):
        print(make_phantom(config))


if __name__ == "__main__":
    main()
