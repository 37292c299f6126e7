r"""Estimate hours, nodes and cost of a conversion from a sample of the corpus, and of training on its images.

Reads a sample of `source`, with the flags and files of `convert`. With `--train`, and `--series`, configs of `train`,
it also times steps of these trials on made-up examples, on a GPU where the cluster has one. Prints tables on standard
error and writes `plan.json` to `out`, nothing else but the job's log.

Example, one of the files in conf/plan or conf/convert:
    hemo plan --config conf/plan/rsna.yaml --source /data/rsna/stage_2_train --price_per_node_hour 0.68
    hemo plan --config conf/convert/rsna.yaml --train conf/train/rsna.yaml --nodes '[1, 8]'
    ray job submit --working-dir . -- python -m ray_jobs.plan --config conf/plan/rsna.yaml \
        --source s3://bucket/rsna/stage_2_train --out s3://bucket/plan
"""

from hemo.config.convert import PlanConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(PlanConfig)
def main(config: PlanConfig) -> None:
    """Print the file of the estimate."""
    import hemo

    print_result(hemo.plan.run(config).path)


if __name__ == "__main__":
    main()
