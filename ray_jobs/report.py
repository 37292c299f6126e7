"""Compare trials: tables with intervals and one HTML page, from their records.

Reads a folder of records. Writes `grid.md`, `grid.csv`, `grid.tex` and `index.html` to `out`; of several cells also
`pairs.csv`; with `published`, also published tables beside these trials. With `data`, a training set or shards, it
writes a page of that, `data.html`, also without records. Needs neither Ray nor a GPU. Prints the table; the last line
is the page.

Example, one of the files in conf/report:
    hemo report --config conf/report/compare.yaml
    hemo report --records runs/phantom/records --out runs/phantom/report
    hemo report --data runs/phantom/training_set --out runs/phantom/data
"""

from hemo.config.report import ReportConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(ReportConfig)
def main(config: ReportConfig) -> None:
    """Print the table of trials, then the page."""
    import hemo
    from hemo.trials.evaluation import read_evaluations
    from hemo.trials.record import check_records

    report = hemo.report.run(config)
    if report.text:
        print_result(report.text)
    print_result(report.page)
    if config.records:
        check_records(config.records)
        read_evaluations(config.records)


if __name__ == "__main__":
    main()
