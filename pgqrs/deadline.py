"""A time limit on statements that the client keeps, for connections where the server cannot.

Behind a pooler no `statement_timeout` can be set for one client. One thread of the process watches
all statements: past its limit one is cancelled, as the server itself would have done, and where
that reaches nobody (the pooler has no server for us yet, or is gone) the connection is shut down.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Protocol

from pgqrs.forking import forget_in_child

__all__ = ["GRACE", "DeadlineWatch", "watch"]

GRACE: Final = 2.0
"""Seconds from the cancelling of a statement to the shutting down of its connection."""


class _Conn(Protocol):
    """What of a psycopg connection is needed."""

    @property
    def socket(self) -> int: ...
    def get_cancel(self) -> Any: ...


class _Statement:
    """One that is under way: until when it may be, and the thread that cancels it."""

    __slots__ = ("cancelling", "connection", "until")

    def __init__(self, connection: _Conn, until: float) -> None:
        self.connection = connection
        self.until = until
        self.cancelling: threading.Thread | None = None

    def end(self) -> None:
        """Cancel it, or shut its connection down if it was cancelled before."""
        if self.cancelling is None:
            cancel = self.connection.get_cancel().cancel
            self.cancelling = threading.Thread(target=_quietly, args=(cancel,), daemon=True)
            self.cancelling.start()
            self.until += GRACE
            return
        self.until = float("inf")
        descriptor = self.connection.socket
        with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as silent:
            silent.shutdown(socket.SHUT_RDWR)


class DeadlineWatch:
    """The statements under way, and the thread that looks after them, started by the first."""

    def __init__(self) -> None:
        self.after_fork_in_child()
        forget_in_child(self)

    def after_fork_in_child(self) -> None:
        """Forget the statements and the thread, which are the parent's."""
        self._changed = threading.Condition()
        self._under_way: set[_Statement] = set()
        self._next_look: float | None = None  # none: asleep until told
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: _Conn, seconds: float) -> Iterator[None]:
        """Limit the time of the block, which is one statement on this libpq connection."""
        statement = _Statement(connection, time.monotonic() + seconds)
        with self._changed:
            self._under_way.add(statement)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="pgqrs-deadlines")
                self._thread.daemon = True
                self._thread.start()
            elif self._next_look is None or statement.until < self._next_look:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._under_way.discard(statement)
            if statement.cancelling is not None:  # or it might hit the next statement
                statement.cancelling.join(GRACE)

    def _look(self) -> None:
        changed = self._changed
        with changed:
            while True:
                now = time.monotonic()
                for statement in self._under_way:
                    if statement.until <= now:
                        statement.end()
                self._next_look = min((each.until for each in self._under_way), default=None)
                changed.wait(None if self._next_look is None else max(self._next_look - now, 0))


def _quietly(cancel: Any) -> None:
    with suppress(Exception):  # whoever cannot be told is shut down soon
        cancel()


watch: Final = DeadlineWatch()
"""The one of this process."""
