"""A stopwatch for batches."""

import time
from collections.abc import Iterator

from hemo.learning.waiting import WaitingTime


def test_only_the_time_without_batches_counts() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    waiting = WaitingTime()
    time.sleep(0.01)
    began, worked = time.perf_counter(), 0.0
    seen = []
    for number in waiting.timed(slow()):
        started = time.perf_counter()
        seen.append(number)
        time.sleep(0.03)
        worked += time.perf_counter() - started
    took = time.perf_counter() - began
    assert seen == [0, 1, 2]
    assert 0.03 <= waiting.first_batch_seconds <= took
    assert 0.06 <= waiting.seconds <= took - worked + 1e-3
