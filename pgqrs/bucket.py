"""How fast a producer may add messages: told how many it would, answers whether or when. No I/O."""

from __future__ import annotations

import datetime as dt
import math
import threading
import time
from collections.abc import Callable
from typing import Final

from pgqrs.forking import forget_in_child
from pgqrs.types import RateLimitStatus

__all__ = ["Bucket"]

_ROUNDING: Final = 1e-6  # of a token: what adding fractions may lose


class Bucket:
    """Holds tokens, one for each message: `burst` at first and at most, `limit` more a second.

    Threads may share it.
    """

    def __init__(
        self, limit: float, burst: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._burst = math.ceil(limit) if burst is None else burst
        self._clock = clock
        self._tokens = float(self._burst)
        self._filled_at = clock()
        self._lock = threading.Lock()
        forget_in_child(self)

    def take(self, count: int) -> dt.timedelta | None:
        """Take so many tokens and give None; or take none, and give how long until they are there.

        More than it holds are given when it is full: it owes them then, and fills up from below
        zero.
        """
        with self._lock:
            wait = self._wait(count)
            if wait is None:
                self._tokens -= count
        return wait

    def status(self) -> RateLimitStatus:
        """Give what is there now."""
        with self._lock:
            wait = self._wait(1)
            return RateLimitStatus(self._limit, self._burst, self._tokens, wait)

    def after_fork_in_child(self) -> None:
        """Forget the lock, which another thread of the parent's may have held."""
        self._lock = threading.Lock()

    def _wait(self, count: int) -> dt.timedelta | None:
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._filled_at) * self._limit, self._burst)
        self._filled_at = now
        short = min(count, self._burst) - self._tokens
        # A clock that has run for weeks tells no more than some billionths of a second apart.
        if count == 0 or short <= _ROUNDING + 2 * math.ulp(now) * self._limit:
            return None
        return dt.timedelta(microseconds=math.ceil(short / self._limit * 1e6))
