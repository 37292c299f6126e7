"""Draw what a prediction depends on: heat maps of image regions (Grad-CAM), or the slices that decided for a study.

Reads a checkpoint and stored images. Writes `case-*.png` and `cases.json` to `out`: an image and its heat map; of a
sequence model a study, probability and support of its slices by position, and the slices of the largest support.
Prints a line for each case. Needs no Ray; uses a GPU if there is one.

Example, one of the files in conf/explain:
    hemo explain --config conf/explain/rsna.yaml --checkpoint runs/rsna/RECORD
    hemo explain --checkpoint runs/rsna/RECORD --images runs/training_set --out runs/explained
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
