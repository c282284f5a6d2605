"""How much a lane takes at once. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Ahead", "Room"]

_QUICK: Final = 0.05  # seconds between leases, below which more is leased ahead
_SLOW: Final = 0.2  # and above which no more than the least


@dataclass(frozen=True, slots=True)
class Room:
    """Handlers at a time, messages for each (0: not in lists), and messages leased ahead of them.

    Ahead of them are `prefetch`, and up to `prefetch_most` while they are quick.
    """

    concurrency: int
    batch_size: int
    prefetch: int
    prefetch_most: int
    time_limit: float | None


class Ahead:
    """How many messages are leased ahead of handlers that take one at a time.

    Few, so that another worker gets them where handlers are slow; but handlers that are through
    with them before the next lease comes back would mostly wait.
    """

    def __init__(self, least: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = least
        self._least = least
        self._most = most
        self._clock = clock
        self._leased_at = float("-inf")

    def leased(self, *, full: bool) -> None:
        """Note a lease, and whether it found all that it wanted."""
        now = self._clock()
        lasted, self._leased_at = now - self._leased_at, now
        if lasted > _SLOW:
            self.count = self._least
        elif full and lasted < _QUICK:
            self.count = min(2 * max(self.count, 1), self._most)
