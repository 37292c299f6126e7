"""Where a record comes from."""

import re
from datetime import datetime

from hemo.cluster.provenance import commit, hardware, now, versions
from hemo.learning.worker import Worker


def test_hardware_tells_workers_and_threads() -> None:
    assert re.fullmatch(r"2 x CPU \(3 threads, .+\)", hardware(Worker(count=2, threads=3)))
    assert re.fullmatch(r"1 x CPU \(1 thread, .+\)", hardware(Worker()))


def test_versions_of_what_results_depend_on() -> None:
    found = versions()
    assert re.match(r"3\.1[12]\.", found["python"])
    assert found["torch"].startswith("2.14")
    assert found["ray"].startswith("2.60")


def test_commit_is_a_hash_or_nothing() -> None:
    assert re.fullmatch(r"([0-9a-f]{40})?", commit())


def test_now_is_utc_to_the_second() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", now())
    assert datetime.fromisoformat(now()).tzinfo is not None
