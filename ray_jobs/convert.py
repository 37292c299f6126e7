"""Job: convert a raw image corpus into Parquet shards.

    ray job submit --working-dir . -- python -m ray_jobs.convert --config conf/convert/rsna.yaml

Reads `source`; writes shards, index, rejects and a card below `out`. Safe to run again: finished units are left alone.
"""

from collections.abc import Sequence

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.session import connected
from hemo.config.convert import ConvertConfig
from hemo.config.load import load_config
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(ConvertConfig, argv, job="convert", summary="Convert a raw image corpus into Parquet shards.")
    with connected(config.cluster):
        print(convert_corpus(config))


if __name__ == "__main__":
    main()
