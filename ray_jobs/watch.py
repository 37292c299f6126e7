"""Show the page of the trials while they run: trials that end join it, running ones show their progress.

Reads the folder that `train` or `tune` writes, while it runs or after, on a mounted disk or a bucket, and serves a page
on this machine alone, http://127.0.0.1:8410/. Writes nothing there. Needs neither Ray nor a GPU. The first line is the
address; Ctrl-C ends it.

Example:
    hemo watch --records runs/chest_xray/records
"""

from contextlib import suppress

from hemo.config.report import WatchConfig
from hemo.console import print_result
from ray_jobs.entry_point import entry_point


@entry_point(WatchConfig)
def main(config: WatchConfig) -> None:
    """Print the address, and serve until the first signal; the second one leaves what is being read."""
    import hemo

    with suppress(KeyboardInterrupt), hemo.watch.run(config) as watch:
        print_result(watch.url)
        watch.wait()
    print_result(f"ended; nothing was written to {config.records}")


if __name__ == "__main__":
    main()
