"""Job: curate shards and labels into a training set.

    ray job submit --working-dir . -- python -m ray_jobs.curate --config conf/curate/rsna.yaml

Reads `shards` and `labels`; writes train, val and test parts and a card below `out`. Safe to run again: a complete
training set is left alone, an interrupted one is made anew.
"""

from collections.abc import Sequence

from hemo.cluster.curate import curate_corpus
from hemo.cluster.session import connected
from hemo.config.curate import CurateConfig
from hemo.config.load import load_config
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(CurateConfig, argv, job="curate", summary="Curate shards and labels into a training set.")
    with connected(config.cluster):
        print(curate_corpus(config))


if __name__ == "__main__":
    main()
