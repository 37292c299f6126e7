"""`hemo NAME`: the same doors as `python -m ray_jobs.NAME`."""

import importlib
import pkgutil
import sys
from collections.abc import Sequence

import ray_jobs
from hemo.errors import ConfigError
from ray_jobs.door import door

NOT_JOBS = {"door", "__main__"}

USAGE = """usage: hemo JOB [--config FILE] [--FLAG VALUE ...]

jobs: {jobs}

`hemo JOB --help` lists a job's flags"""


@door
def main(argv: Sequence[str] | None = None) -> None:
    """Open the door named first on the command line."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    jobs = sorted(module.name for module in pkgutil.iter_modules(ray_jobs.__path__) if module.name not in NOT_JOBS)
    if words[0] in ("-h", "--help"):
        print(USAGE.format(jobs=", ".join(jobs)))
    elif words[0] in jobs:
        importlib.import_module(f"ray_jobs.{words[0]}").main(words[1:])
    else:
        raise ConfigError(f"{words[0]!r} is no job; the jobs are {', '.join(jobs)}")


if __name__ == "__main__":
    main()
