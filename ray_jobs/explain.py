"""Job: pictures of where a model sees evidence of a class (Grad-CAM).

    hemo explain --checkpoint runs/rsna/RECORD/checkpoint --images runs/training_set --out runs/explained

Writes `case-*.png`, image and heat map side by side, and `cases.json` below `out`. Needs no Ray; uses a GPU where
there is one. The last line printed is the folder.
"""

from collections.abc import Sequence

from hemo.config.inference import ExplainConfig
from hemo.config.load import load_config
from hemo.inference.explain import explain_cases
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, run, print. Everything else is in hemo."""
    config = load_config(
        ExplainConfig, argv, job="explain", summary="Draw where a checkpoint sees evidence of a class."
    )
    for case in explain_cases(config):
        label = "-" if case["label"] is None else case["label"]
        print(f"{case['file']}  {case['class']} {label}  probability {case['probability']:.3f}  {case['image_id']}")
    print(config.out)


if __name__ == "__main__":
    main()
