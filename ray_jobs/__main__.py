"""`hemo NAME`: the same doors as `python -m ray_jobs.NAME`."""

import importlib
import pkgutil
import sys

import ray_jobs
from ray_jobs.door import WRONG_INPUT

NOT_JOBS = {"door", "__main__"}

USAGE = """usage: hemo JOB [--config FILE] [--FLAG VALUE ...]

jobs: {jobs}

`hemo JOB --help` lists a job's flags"""


def main() -> None:
    """Open the door named first on the command line."""
    jobs = sorted(module.name for module in pkgutil.iter_modules(ray_jobs.__path__) if module.name not in NOT_JOBS)
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(USAGE.format(jobs=", ".join(jobs)))
        return
    if name not in jobs:
        print(f"hemo: {name!r} is no job; the jobs are {', '.join(jobs)}", file=sys.stderr)
        sys.exit(WRONG_INPUT)
    importlib.import_module(f"ray_jobs.{name}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
