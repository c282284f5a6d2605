"""Measure again and again in a thread of its own: a server that is silent stops no key."""

from __future__ import annotations

import datetime as dt
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgqrs.cli.failures import hidden
from pgqrs.cli.top.view import Measured
from pgqrs.errors import PgqrsError

if TYPE_CHECKING:
    from pgqrs.admin import Admin

__all__ = ["Watch", "measure"]

Order = tuple[str, str]
"""What to do with which queue: pause or resume."""


def measure(admin: Admin) -> Measured:
    """Look at everything once."""
    stats, workers = admin.system_stats(), tuple(admin.worker_health())
    return Measured(dt.datetime.now().astimezone(), stats, workers)


class Watch:
    """Measures every `interval` seconds, does orders in between, and tells of both.

    `tell` is called in the thread: with what was measured, what was done, or what went wrong.
    """

    def __init__(
        self, admin: Admin, interval: float, tell: Callable[[Measured | str | PgqrsError], object]
    ) -> None:
        self._admin = admin
        self._interval = interval
        self._tell = tell
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="pgqrs-top", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def order(self, what: str, name: str) -> None:
        """Have a queue paused or resumed, and measure then."""
        self._orders.put((what, name))

    def stop(self) -> None:
        """Measure no more; one that waits for the server is not waited for."""
        self._orders.put(None)
        self._thread.join(1)

    def _run(self) -> None:
        while True:
            try:
                self._tell(measure(self._admin))
            except PgqrsError as error:
                self._tell(error)
            try:
                order = self._orders.get(timeout=self._interval)
            except queue.Empty:
                continue
            if order is None:
                return
            self._do(*order)

    def _do(self, what: str, name: str) -> None:
        try:
            if what == "pause":
                self._admin.pause_queue(name)
            else:
                self._admin.resume_queue(name)
        except PgqrsError as error:
            self._tell(hidden(str(error)))
        else:
            self._tell(f"queue {name} is {'paused' if what == 'pause' else 'open again'}")
