"""How long to wait before looking again: told what was found, answers in seconds. No I/O.

Polling never stops: a lost notification costs latency, never a message.
"""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["Patience", "backoff"]

_JITTER: Final = 0.1
_SHORTEST: Final = 0.01  # seconds: what is due may be in another's hands just now


class Patience:
    """When to look at one queue again.

    After a full lease at once; after a short one when woken, when the next message is due, or
    after the poll interval, which varies by a tenth so that a fleet does not poll in step.
    """

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._look_at = clock()

    def found(self, count: int, wanted: int, next_due: dt.timedelta | None) -> None:
        """Note what a lease gave of what it wanted, and when the next message is due."""
        now = self._clock()
        if count >= wanted:
            self._look_at = now
            return
        spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
        wait = self._interval * spread
        if next_due is not None:
            wait = min(wait, max(next_due.total_seconds(), _SHORTEST))
        self._look_at = now + wait

    def woken(self) -> None:
        """Note that there is something new."""
        self._look_at = self._clock()

    def remaining(self) -> float:
        """Give the seconds until it is time to look; 0 when it is."""
        return max(self._look_at - self._clock(), 0)


def backoff(first: float = 0.1, longest: float = 5.0) -> Iterator[float]:
    """Give growing pauses between attempts to reconnect, each varied by half."""
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.5)  # noqa: S311 - not a secret
        pause = min(pause * 2, longest)
