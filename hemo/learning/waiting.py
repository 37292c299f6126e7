"""How long a loop waited for its data."""

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class WaitingTime:
    """A stopwatch of one epoch, begun when it is made."""

    def __init__(self) -> None:
        """Begin."""
        self._began = time.perf_counter()
        self.first_batch_seconds = 0.0  # from the beginning until the first batch was there
        self.seconds = 0.0  # waited for all batches together

    def timed(self, batches: Iterator[T]) -> Iterator[T]:
        """Pass batches on, and count how long each one took to come."""
        asked = time.perf_counter()
        for number, batch in enumerate(batches):
            now = time.perf_counter()
            self.seconds += now - asked
            if number == 0:
                self.first_batch_seconds = now - self._began
            yield batch
            asked = time.perf_counter()
