r"""Predict the probability of every class for every image, with a checkpoint.

Reads the output of `convert`, or a raw corpus, and a checkpoint. Writes `predictions.parquet` (images),
`studies.parquet`, `rejects.parquet` and, for RSNA's six classes, `submission.csv` to `out`.

Example, one of the files in conf/predict:
    hemo predict --config conf/predict/rsna.yaml --source /data/rsna/stage_2_test --checkpoint runs/rsna/RECORD
    ray job submit --working-dir . -- python -m ray_jobs.predict --source s3://bucket/rsna/stage_2_test --corpus rsna \
        --checkpoint s3://bucket/records/RECORD --out s3://bucket/predictions --gpus 1
"""

from hemo.config.inference import PredictConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(PredictConfig)
def main(config: PredictConfig) -> None:
    """Print the output folder."""
    import hemo

    print_result(hemo.predict.run(config).path)


if __name__ == "__main__":
    main()
