"""A time limit on statements that the client keeps, where the server does not.

Behind a pooler no `statement_timeout` can be set for one client, and a server or proxy that hangs
keeps none. One thread of the process watches all statements: past its limit one is cancelled, as
the server itself would have done, and where that reaches nobody the connection is shut down.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final, Protocol

from psycopg import Error

from pgqrs.forking import forget_in_child

__all__ = ["GRACE", "DeadlineWatch", "watch"]

GRACE: Final = 2.0
"""Seconds from the cancelling of a statement to the shutting down of its connection."""


class _Conn(Protocol):
    """What of a psycopg connection is needed."""

    @property
    def socket(self) -> int: ...
    def get_cancel(self) -> Any: ...


class Statement:
    """One that is under way in a `with` block: until when, and the thread that cancels it."""

    __slots__ = ("_watch", "cancelling", "connection", "seconds", "until")

    def __init__(self, watch: DeadlineWatch, connection: _Conn, seconds: float) -> None:
        self._watch = watch
        self.connection = connection
        self.seconds = seconds
        self.until = 0.0
        self.cancelling: threading.Thread | None = None

    def __enter__(self) -> None:
        self.until = time.monotonic() + self.seconds
        self._watch.begin(self)

    def __exit__(self, *_: object) -> None:
        self._watch.forget(self)
        if self.cancelling is not None:  # or it might hit the next statement
            self.cancelling.join(GRACE)

    def end(self) -> None:
        """Cancel it, or shut its connection down if it was cancelled before."""
        if self.cancelling is None:
            self.cancelling = threading.Thread(target=self._cancel, daemon=True)
            self.cancelling.start()
            self.until += GRACE
            return
        self.until = math.inf
        with (
            suppress(OSError, Error),  # of a connection that is closed
            socket.socket(fileno=os.dup(self.connection.socket)) as silent,
        ):
            silent.shutdown(socket.SHUT_RDWR)

    def _cancel(self) -> None:
        with suppress(Exception):  # whoever cannot be told is shut down soon
            self.connection.get_cancel().cancel()


class DeadlineWatch:
    """The statements under way, and the thread that looks after them, started by the first.

    It looks again before any statement that begins meanwhile can be late, so that hardly one has
    to wake it: that would cost more than the rest.
    """

    def __init__(self) -> None:
        self.after_fork_in_child()
        forget_in_child(self)

    def after_fork_in_child(self) -> None:
        """Forget the statements and the thread, which are the parent's."""
        self._lock = threading.RLock()  # a signal handler may send something meanwhile
        self._changed = threading.Condition(self._lock)
        self._under_way: set[Statement] = set()
        self._shortest = math.inf  # of all limits, in seconds
        self._next_look = 0.0
        self._thread: threading.Thread | None = None

    def over(self, connection: _Conn, seconds: float) -> Statement:
        """Limit the time of a `with` block, which is one statement on this libpq connection."""
        return Statement(self, connection, seconds)

    def begin(self, statement: Statement) -> None:
        """Look after a statement from now on."""
        with self._lock:
            self._under_way.add(statement)
            self._shortest = min(self._shortest, statement.seconds)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="pgqrs-deadlines")
                self._thread.daemon = True
                self._thread.start()
            elif statement.until < self._next_look:
                self._changed.notify()

    def forget(self, statement: Statement) -> None:
        """Look after it no more."""
        with self._lock:
            self._under_way.discard(statement)

    def _look(self) -> None:
        changed = self._changed
        with changed:
            while True:
                now = time.monotonic()
                for statement in self._under_way:
                    if statement.until <= now:
                        statement.end()
                soonest = min((each.until for each in self._under_way), default=math.inf)
                self._next_look = min(soonest, now + self._shortest)
                changed.wait(max(self._next_look - now, 0))


watch: Final = DeadlineWatch()
"""The one of this process."""
