"""Where a lease begins to look while dead rows make leases slow. No I/O.

A snapshot that somebody holds (a long transaction, a dump, a replica) keeps rows that are finished
from being cleaned, and every lease walks over those at the head of its indexes. What a lease found
says where the living begin, so the next ones start there: their bounds are tested inside the index.
Each second, and after a short result, a lease looks at everything, so nothing is hidden for longer.
One slow lease may be a busy machine; two in a row that found nothing but one priority are believed.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pgqrs.types import QueueMessage

__all__ = ["Bounds", "Floor"]

_HOLDS_FOR: Final = 1.0  # seconds
_SLOW: Final = 0.001  # seconds of looking, and so many more for each message
_SLOW_EACH: Final = 0.000_005


class Bounds(NamedTuple):
    """Of the ready the lowest priority and the smallest id, of the others the earliest vt."""

    rank: int
    floor: int
    since: dt.datetime


class Floor:
    """The bounds of one consumer on one queue, while there are any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bounds: Bounds | None = None
        self._until = 0.0
        self._ranks: set[int] = set()  # the one priority of the last lease, if that was slow

    def bounds(self) -> Bounds | None:
        """Give where to look; None for everywhere."""
        if self._bounds is not None and self._clock() >= self._until:
            self._bounds = None
        return self._bounds

    def found(
        self, messages: Sequence[QueueMessage], size: int, looked_for: dt.timedelta | None
    ) -> None:
        """Note what a lease of up to `size` found, and how long it looked.

        None where it did not look at all that is due, of which some may be better.
        """
        bounds, ranks = self._bounds, {message.priority for message in messages}
        if looked_for is None or len(messages) < size or len(ranks) > 1:
            self._bounds, self._ranks = None, set()
            return
        if bounds is None and looked_for.total_seconds() <= _SLOW + _SLOW_EACH * size:
            self._ranks = set()
            return
        floor, again = min(message.id for message in messages), ranks == self._ranks
        self._ranks = ranks
        if bounds is not None:
            self._bounds = bounds._replace(floor=floor) if again else None
        elif again and (since := messages[0].dequeued_at) is not None:
            self._bounds = Bounds(messages[0].priority, floor, since)
            self._until = self._clock() + _HOLDS_FOR

    def drop(self) -> None:
        """Look everywhere next time: something may have come back below."""
        self._bounds = None
