"""Command `hemo JOB`: run the entry point of a job; `hemo --help` lists the jobs."""

import importlib
import pkgutil
import sys
from collections.abc import Sequence

import ray_jobs
from hemo.config.validation import meant
from hemo.errors import ConfigError
from ray_jobs.entry_point import errors_as_exit_codes

NOT_JOBS = {"entry_point", "__main__"}

HELP = """usage: hemo JOB [--config FILE] [--FLAG VALUE ...]

{jobs}

convert -> curate -> tune or train -> report; then evaluate, predict, embed, explain or export with a checkpoint.

`hemo JOB --help` describes a job, its input and output, and its flags. Files for --config are in conf/."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job named by the first argument."""
    job, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    jobs = sorted(module.name for module in pkgutil.iter_modules(ray_jobs.__path__) if module.name not in NOT_JOBS)
    if job in ("-h", "--help"):
        print(HELP.format(jobs="\n".join(f"  {name:<10} {_summary(name)}" for name in jobs)))  # noqa: T201
        return
    with errors_as_exit_codes():
        if job not in jobs:
            raise ConfigError(f"{job!r} is no job{meant(job, jobs)}; the jobs are {', '.join(jobs)}")
    importlib.import_module(f"ray_jobs.{job}").main(arguments)


def _summary(job: str) -> str:
    """Return the first line of a job's docstring."""
    return (importlib.import_module(f"ray_jobs.{job}").__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    main()
