"""Job: list backbones with their parameters, the images they take and the weights there are.

    hemo backbones
    hemo backbones --containing convnext_tiny

Prints a table: the sources' backbones, or timm's whose name has a part in it. Downloads nothing, needs no Ray.
"""

from collections.abc import Sequence

from hemo.config.load import load_config
from hemo.config.report import BackbonesConfig
from hemo.models.catalogue import as_lines, listed_backbones
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(
        BackbonesConfig, argv, job="backbones", summary="List backbones: parameters, image sizes, weights."
    )
    for line in as_lines(listed_backbones(config.containing, config.channels)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
