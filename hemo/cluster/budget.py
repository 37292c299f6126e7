"""How long trials may begin."""

import math
import time


class Budget:
    """A span of time that begins when it is first asked about, with a sweep's first trial."""

    def __init__(self, seconds: float = math.inf) -> None:
        """Take the length of the span."""
        self._seconds = seconds
        self._began = math.nan

    def is_over(self) -> bool:
        """Tell whether the span has passed."""
        now = time.monotonic()
        if math.isnan(self._began):
            self._began = now
        return now - self._began >= self._seconds
