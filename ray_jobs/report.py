"""Job: make tables, figures and one HTML page of trial records.

    hemo report --config conf/report/compare.yaml

Reads the folder of `records`, writes `grid.md`, `grid.csv`, `grid.tex`, `figures/` and `index.html` below `out`, and
with `--published` sets published tables beside ours. Needs neither Ray nor a GPU. The last line printed is the page.
"""

from collections.abc import Sequence

from hemo.config.load import load_config
from hemo.config.report import ReportConfig
from hemo.reporting.build import TABLE, write_report
from hemo.storage import join, read_bytes
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(
        ReportConfig, argv, job="report", summary="Make tables, figures and one HTML page of trial records."
    )
    page = write_report(config)
    print(read_bytes(join(config.out, TABLE)).decode())
    print(page)


if __name__ == "__main__":
    main()
