"""Draw heat maps of the image regions that a prediction depends on (Grad-CAM).

Reads a checkpoint and stored images. Writes `case-*.png`, image and heat map side by side, and `cases.json` to `out`.
Prints a line for each case. Needs no Ray; uses a GPU if there is one.

Example, one of the files in conf/explain:
    hemo explain --config conf/explain/rsna.yaml --checkpoint runs/rsna/RECORD/checkpoint
    hemo explain --checkpoint runs/rsna/RECORD/checkpoint --images runs/training_set --out runs/explained
"""

from hemo.config.inference import ExplainConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(ExplainConfig)
def main(config: ExplainConfig) -> None:
    """Print a line for each case, then the output folder."""
    import hemo

    explanations = hemo.explain.run(config)
    for case in explanations.cases:
        label = "-" if case["label"] is None else case["label"]
        probability = f"probability {case['probability']:.3f}"
        print_result(f"{case['file']}  {case['class']} {label}  {probability}  {case['image_id']}")
    print_result(explanations.path)


if __name__ == "__main__":
    main()
