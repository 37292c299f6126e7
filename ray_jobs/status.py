"""Job: how far the trials of a folder of records are.

    hemo status --records runs/chest_xray/records

Reads what a sweep wrote so far, while it runs or after it, from any machine that sees the folder: needs neither Ray nor
a GPU, and changes nothing. The last line printed is the folder.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from hemo.config.load import load_config
from hemo.config.report import StatusConfig
from hemo.reporting.status_table import status_text
from hemo.trials.status import read_status
from ray_jobs.door import door


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Parse, load, read, print. Everything else is in hemo."""
    config = load_config(StatusConfig, argv, job="status", summary="How far the trials of a folder of records are.")
    print(status_text(read_status(config.records, datetime.now(UTC))))
    print(config.records)


if __name__ == "__main__":
    main()
