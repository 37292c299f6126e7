"""List backbones with their parameters, image sizes and ImageNet weights.

Prints a table: the six backbones of the published tables, or those of timm whose name contains a text. Reads and
writes no file, downloads nothing, and needs no Ray.

Example:
    hemo backbones
    hemo backbones --containing convnext_tiny
"""

from hemo.config.report import BackbonesConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(BackbonesConfig)
def main(config: BackbonesConfig) -> None:
    """Print the table."""
    import hemo
    from hemo.models.catalogue import as_lines

    for line in as_lines(hemo.backbones.run(config)):
        print_result(line)


if __name__ == "__main__":
    main()
