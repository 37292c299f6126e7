"""Show the progress of trials: complete, running, failed and waiting ones, and the time left.

Reads the folder that `train` or `tune` writes, while it runs or after, from any machine that can read the folder.
Writes nothing. Needs neither Ray nor a GPU.

Example:
    hemo status --records runs/chest_xray/records
"""

from hemo.config.report import StatusConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(StatusConfig)
def main(config: StatusConfig) -> None:
    """Print a table of the trials, then the folder."""
    import hemo
    from hemo.trials.status import require_readable

    status = hemo.status.run(config)
    print_result(status)
    print_result(config.records)
    require_readable(status.sweeps)


if __name__ == "__main__":
    main()
