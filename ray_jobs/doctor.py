"""Examine a cluster before work is submitted: versions, storage, GPUs, memory, disk, clocks, ports, token.

Reads the state of each node and prints a line a check, with the cure of each fault. Where no node is up, one is
started. Writes a small file below each `storage` and removes it. Exit code 1 if a fault is fatal: jobs would fail.

Example, the first job on a new cluster:
    ray job submit --working-dir . -- python -m ray_jobs.doctor --storage '[s3://bucket/corpus, s3://bucket/out]'
    hemo doctor
"""

from hemo.config.report import DoctorConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(DoctorConfig)
def main(config: DoctorConfig) -> None:
    """Print the findings."""
    import hemo
    from hemo.errors import HemoError

    checkup = hemo.doctor.run(config)
    print_result(checkup)
    if checkup.fatal:
        raise HemoError(f"{len(checkup.fatal)} of {len(checkup.findings)} checks failed; the cures stand beside them")
    print_result("no fatal finding")


if __name__ == "__main__":
    main()
