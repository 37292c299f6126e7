"""Export a checkpoint to ONNX, compare its logits with torch and measure its speed on the CPU.

Reads a checkpoint, and images for the comparison. Writes `model.onnx` (stored pixels in, probabilities out, any number
of images) and `export.json` to `out`. Needs neither Ray nor a GPU.

Example, one of the files in conf/export:
    hemo export --config conf/export/rsna.yaml --checkpoint runs/rsna/RECORD
    hemo export --checkpoint runs/rsna/RECORD --images runs/converted --out runs/onnx
"""

from typing import TYPE_CHECKING

from hemo.config.inference import ExportConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point

if TYPE_CHECKING:
    from hemo.cluster.export import ExportCard


@entry_point(ExportConfig)
def main(config: ExportConfig) -> None:
    """Print size, difference and speed, then the file of the model."""
    import hemo

    export = hemo.export.run(config)
    print_result(cost_text(export.card))
    print_result(export.model)


def cost_text(card: "ExportCard") -> str:
    """Return size, difference from torch and speed of the model, a line each."""
    lines = [
        f"{card.parameters:,} parameters, {card.megabytes:.1f} MB",
        f"logits differ from torch by at most {card.largest_logit_difference:.1e} on {card.checked_images} images "
        f"({card.checked_on}); {card.tolerance:g} is allowed",
    ]
    for name, speed in (("onnxruntime", card.onnxruntime), ("torch", card.torch)):
        lines.append(
            f"{name}: {speed.latency_ms:.2f} ms for one image, {speed.images_per_second:.1f} images/s in batches of "
            f"{card.batch_size}"
        )
    return "\n".join([*lines, card.hardware])


if __name__ == "__main__":
    main()
