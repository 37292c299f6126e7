"""Job: the whole line from one config, from a corpus to the comparison of models.

    hemo pipeline --config conf/demo.yaml

Runs phantom (where the config has it), convert, curate, tune and report below `out`. Safe to run again: what is
complete is left alone. Prints the comparison; the last line is the page.
"""

from collections.abc import Sequence

from hemo.cluster.pipeline import run_pipeline
from hemo.config.load import load_config
from hemo.config.pipeline import PipelineConfig
from hemo.reporting.build import TABLE
from hemo.storage import join, read_bytes
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(
        PipelineConfig, argv, job="pipeline", summary="From a corpus to the comparison of models, by one config."
    )
    page = run_pipeline(config)
    print(read_bytes(join(config.report.out, TABLE)).decode())
    print(page)


if __name__ == "__main__":
    main()
