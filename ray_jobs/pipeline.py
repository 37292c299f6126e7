"""Run phantom, convert, curate, tune and report one after the other, from one config.

Reads the corpus of `convert.source`, or makes one if the config has a section `phantom`. Each stage writes below `out`
and reads what the stage before wrote: these folders need not be given. Safe to run again: complete stages are skipped.
Prints the comparison; the last line is the page.

Example, one of the files in conf/pipeline and conf/study, or conf/demo.yaml:
    hemo pipeline --config conf/demo.yaml
    hemo pipeline --config conf/pipeline/chest_xray_small.yaml --convert.source /data/chest_xray
"""

from hemo.config.pipeline import PipelineConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(PipelineConfig)
def main(config: PipelineConfig) -> None:
    """Print the table of trials, then the page."""
    import hemo
    from hemo.trials.record import check_records

    report = hemo.pipeline.run(config)
    print_result(report.text)
    print_result(report.page)
    check_records(config.report.records)


if __name__ == "__main__":
    main()
