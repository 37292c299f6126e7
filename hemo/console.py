"""Lines on standard error: progress and results of a running job. Standard output has the result's path alone."""

import sys

from tqdm import tqdm


def print_line(line: str) -> None:
    """Print one line on standard error, above a progress bar if one is shown."""
    tqdm.write(line, file=sys.stderr)
