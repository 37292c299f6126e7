"""Make a synthetic head-CT corpus in the layout of RSNA 2019, with that corpus's known faults.

Reads nothing. Writes `stage_2_train/ID_*.dcm`, `stage_2_train.csv` and `phantom.json` to `out`. Safe to run again: a
complete corpus is kept.

Example, one of the files in conf/phantom:
    hemo phantom --config conf/phantom/demo.yaml --out data/phantom
    hemo phantom --out data/phantom --slices 600 --seed 0
"""

from hemo.config.convert import PhantomConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(PhantomConfig)
def main(config: PhantomConfig) -> None:
    """Print the folder of the corpus."""
    import hemo

    print_result(hemo.phantom.run(config))


if __name__ == "__main__":
    main()
