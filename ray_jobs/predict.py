r"""Job: probabilities of every class for every image of a conversion or a raw corpus.

    ray job submit --working-dir . -- python -m ray_jobs.predict --source s3://bucket/rsna --corpus rsna \
        --checkpoint s3://bucket/records/0123456789abcdef/checkpoint --out s3://bucket/predictions

Writes `predictions.parquet` (slices), `studies.parquet`, `rejects.parquet` and, for RSNA's six classes,
`submission.csv` below `out`.
"""

from collections.abc import Sequence

from hemo.cluster.predict import predict_corpus
from hemo.cluster.session import connected
from hemo.config.inference import PredictConfig
from hemo.config.load import load_config
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(PredictConfig, argv, job="predict", summary="Predict every image with a checkpoint.")
    with connected(config.cluster):
        print(predict_corpus(config))


if __name__ == "__main__":
    main()
