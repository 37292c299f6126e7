"""Show the progress of trials: complete, running, failed and waiting ones, and the time left.

Reads the folder that `train` or `tune` writes, while it runs or after, from any machine that can read the folder.
Writes nothing. Needs neither Ray nor a GPU.

Example:
    hemo status --records runs/chest_xray/records
"""

from datetime import UTC, datetime

from hemo.config.report import StatusConfig
from hemo.errors import SourceError
from ray_jobs.entry_point import entry_point


@entry_point(StatusConfig)
def main(config: StatusConfig) -> None:
    """Print a table of the trials, then the folder."""
    from hemo.reporting.status_table import status_text
    from hemo.trials.status import read_status

    sweeps = read_status(config.records, datetime.now(UTC))
    print(status_text(sweeps))
    print(config.records)
    if unreadable := [trial.reason for sweep in sweeps for trial in sweep.trials if trial.status == "unreadable"]:
        raise SourceError("\n".join(unreadable))


if __name__ == "__main__":
    main()
