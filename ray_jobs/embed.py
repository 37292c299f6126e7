r"""Turn every image into a vector: the features of a backbone, for heads, sequences of slices and similar images.

Reads the output of `convert` or `curate`, and a checkpoint, or a backbone with its weights. Writes
`embeddings/part-NNNNNN.parquet` (ids and a vector for each image) and `card.json` to `out`.

Example, one of the files in conf/embed:
    hemo embed --config conf/embed/chest_xray.yaml --source runs/chest_xray/converted --out runs/chest_xray/embeddings
    ray job submit --working-dir . -- python -m ray_jobs.embed --source s3://bucket/set --gpus 1 \
        --checkpoint s3://bucket/records/RECORD --out s3://bucket/embeddings --dtype float16
"""

from hemo.config.inference import EmbedConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(EmbedConfig)
def main(config: EmbedConfig) -> None:
    """Print the output folder."""
    import hemo

    print_result(hemo.embed.run(config).path)


if __name__ == "__main__":
    main()
