"""Job: a checkpoint to ONNX, compared with torch and timed on the CPU.

    hemo export --checkpoint runs/rsna/RECORD/checkpoint --images runs/converted --out runs/onnx

Writes `model.onnx` (stored pixels in, probabilities out, any number of images) and `export.json` below `out`. Needs
neither Ray nor a GPU. The last line printed is the model.
"""

from collections.abc import Sequence

from hemo.cluster.export import MODEL, ExportCard, export_checkpoint
from hemo.config.inference import ExportConfig
from hemo.config.load import load_config
from hemo.storage import join
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(ExportConfig, argv, job="export", summary="Write a checkpoint as ONNX, checked and timed.")
    print(cost_text(export_checkpoint(config)))
    print(join(config.out, MODEL))


def cost_text(card: ExportCard) -> str:
    """Return what the model costs to use, a line each."""
    lines = [
        f"{card.parameters:,} parameters, {card.megabytes:.1f} MB",
        f"logits within {card.largest_logit_difference:.1e} of torch's on {card.checked_images} images "
        f"({card.checked_on}), {card.tolerance:g} allowed",
    ]
    for name, speed in (("onnxruntime", card.onnxruntime), ("torch", card.torch)):
        lines.append(
            f"{name}: {speed.latency_ms:.2f} ms an image alone, {speed.images_per_second:.1f} images/s "
            f"{card.batch_size} at once"
        )
    return "\n".join([*lines, card.hardware])


if __name__ == "__main__":
    main()
