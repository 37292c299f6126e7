r"""Evaluate a checkpoint on labelled images of another place: as is, recalibrated, by subgroup and by study.

Reads a checkpoint, and a training set, or shards or raw files with a table of labels. Writes `evaluation.json` and
`predictions.parquet` to a folder of its own below `out`, a folder of records: `hemo report` shows it beside the trials.
Prints the tables; the last line is the folder.

Example, one of the files in conf/evaluate:
    hemo evaluate --config conf/evaluate/phantom.yaml --checkpoint runs/phantom/records/RECORD
    ray job submit --working-dir . -- python -m ray_jobs.evaluate --source s3://bucket/other --corpus dicom \
        --labels s3://bucket/other.csv --pseudonym_key env:KEY --checkpoint s3://bucket/records/RECORD \
        --out s3://bucket/records --gpus 1
"""

from hemo.config.inference import EvaluateConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(EvaluateConfig)
def main(config: EvaluateConfig) -> None:
    """Print the tables of the evaluation, then its folder."""
    import hemo

    evaluation = hemo.evaluate.run(config)
    print_result(evaluation.text)
    print_result(evaluation.path)


if __name__ == "__main__":
    main()
