"""Measure what leaks between splits are worth, in points of AUROC and accuracy.

Reads the output of `curate`. Trains one cell under a split by image, by study, by patient id, and by patient with
duplicates linked, on equally many of the same images, and tests each twice: on its own test, as published studies do,
and on patients that no split uses. The difference is what the leak is worth. Labels shuffled between patients show what
the model can remember. Writes a table, records and checkpoints to `out`. Safe to run again: finished trials are kept.

Cost: up to four trainings, and two with shuffled labels, for each seed, on half of the images; trials of one split run
side by side, splits one after the other. No image is copied: a split is a list of rows, some 20 bytes an image.

Example, one of the files in conf/leaks:
    hemo leaks --config conf/leaks/phantom.yaml
    hemo leaks --training_set SET --out LEAKS --seeds 3 --trial.target PNEUMONIA --trial.model.backbone ResNet50
"""

from hemo.config.leaks import LeaksConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(LeaksConfig)
def main(config: LeaksConfig) -> None:
    """Print what the leaks are worth, then the folder."""
    import hemo

    leaks = hemo.leaks.run(config)
    print_result("\n".join(leaks.card.conclusions))
    print_result(leaks.path)


if __name__ == "__main__":
    main()
