"""When to notify: often enough that nobody sleeps past a message, seldom enough to stay cheap.

A NOTIFY inside a transaction takes a lock of the whole cluster until the commit is flushed, so
not every INSERT carries one. The first after a pause does; those that follow within
`INTERVAL` owe one, which is sent when the interval is over, unless an INSERT carried one by then.
Pure but for the clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pgqrs.errors import PgqrsError
from pgqrs.forking import forget_in_child

__all__ = ["INTERVAL", "Bell", "Ringer"]

INTERVAL: Final = 0.01
"""Seconds between two notifications of one producer."""


class Bell:
    """Decides for one queue of one producer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rung_at = -INTERVAL
        self._owed = False

    def rings_along(self) -> bool:
        """Say whether the next INSERT carries the notification; if not, one is owed."""
        now = self._clock()
        if now - self._rung_at >= INTERVAL:
            self._rung_at, self._owed = now, False
            return True
        self._owed = True
        return False

    def owes(self) -> bool:
        """Say whether a notification is still to be sent by itself."""
        return self._owed

    def paid(self) -> None:
        """Note that it was sent."""
        self._rung_at, self._owed = self._clock(), False

    def due_in(self) -> float:
        """Give the seconds until what is owed is to be sent."""
        return max(self._rung_at + INTERVAL - self._clock(), 0.0)


class Ringer:
    """Sends what a bell owes, from a daemon thread that lives as long as there are bursts."""

    def __init__(self, bell: Bell, send: Callable[[], None]) -> None:
        self._bell = bell
        self._send = send
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._owing = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        forget_in_child(self)

    def soon(self) -> None:
        """See to it that what is owed is sent."""
        self._owing.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    run = threading.Thread(target=self._ring, name="pgqrs-bell", daemon=True)
                    self._thread = run
                    run.start()

    def close(self) -> None:
        """Send at once what is owed, and nothing after that; nothing is being sent any more."""
        self._flush()
        with self._sending:
            self._closed = True

    def after_fork_in_child(self) -> None:
        """Forget the thread, which stays with the parent."""
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._owing = threading.Event()
        self._thread = None

    def _flush(self) -> None:
        with self._sending:
            if self._bell.owes() and not self._closed:
                self._bell.paid()
                with suppress(PgqrsError):  # it is only a hint: polling finds the message
                    self._send()

    def _ring(self) -> None:
        while self._owing.wait(_LINGER):
            self._owing.clear()
            time.sleep(self._bell.due_in())
            self._flush()
        self._thread = None
        if self._owing.is_set():  # asked for just as this thread went
            self.soon()


_LINGER: Final = 5.0  # seconds without a burst after which the thread ends
