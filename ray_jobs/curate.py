r"""Join shards with labels and split them into a training set.

Reads the output of `convert` and a table of labels. Writes train, val and test parts, an audit of labels and patients,
and a card to `out`. Safe to run again: a complete training set is kept, an interrupted one is made anew.

Example, one of the files in conf/curate:
    hemo curate --config conf/curate/rsna.yaml --shards /data/converted/rsna --labels /data/rsna/stage_2_train.csv
    ray job submit --working-dir . -- python -m ray_jobs.curate --config conf/curate/rsna.yaml \
        --shards s3://bucket/converted/rsna --labels s3://bucket/rsna/stage_2_train.csv --out s3://bucket/sets/rsna
"""

from hemo.config.curate import CurateConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(CurateConfig)
def main(config: CurateConfig) -> None:
    """Print the folder of the training set."""
    import hemo

    print_result(hemo.curate.run(config).path)


if __name__ == "__main__":
    main()
