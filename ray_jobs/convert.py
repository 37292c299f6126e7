r"""Convert DICOM files or pictures into Parquet shards.

Reads `source`: a folder, a zip or a bucket. Writes shards, index, rejects and a card to `out`. Safe to run again:
finished units are skipped.

Example, one of the files in conf/convert:
    hemo convert --config conf/convert/rsna.yaml --source /data/rsna/stage_2_train --out /data/converted/rsna
    ray job submit --working-dir . -- python -m ray_jobs.convert --config conf/convert/rsna.yaml \
        --source s3://bucket/rsna/stage_2_train --out s3://bucket/converted/rsna
"""

from hemo.config.convert import ConvertConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(ConvertConfig)
def main(config: ConvertConfig) -> None:
    """Print the output folder."""
    import hemo

    print_result(hemo.convert.run(config).path)


if __name__ == "__main__":
    main()
