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

    @property
    def size(self) -> int:
        """How many messages a handler gets at once."""
        return max(self.batch_size, 1)


class Ahead:
    """How many messages are leased ahead of handlers.

    Few, so that another worker gets them where handlers are slow; but handlers that are through
    with them before the next lease comes back would mostly wait. `step` is the fewest of which
    more are any use: a batch.
    """

    def __init__(
        self,
        least: int,
        most: int,
        step: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = least
        self._least = least
        self._most = most
        self._step = step
        self._clock = clock
        self._leased_at = float("-inf")

    def ends_in(self) -> float:
        """Give the seconds until there are too many, if nothing is leased until then."""
        if self.count == self._least:
            return float("inf")
        return max(self._leased_at + _SLOW - self._clock(), 0.0)

    def end(self) -> None:
        """Lease no more than the least ahead."""
        self.count = self._least

    def leased(self, *, full: bool) -> None:
        """Note a lease, and whether it found all that it wanted."""
        now = self._clock()
        lasted, self._leased_at = now - self._leased_at, now
        if lasted > _SLOW:
            self.count = self._least
        elif full and lasted < _QUICK:
            self.count = min(max(2 * self.count, self._step), self._most)
