"""A time limit on talking to the server that holds when the server does not answer at all.

`statement_timeout` is the server's to keep; a connection that went silent (a dead proxy, a lost
route) would be waited for for ever. Past the limit the socket is shut down, and whoever waits on it
gets the error of a lost connection.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Self

from psycopg import OperationalError
from sqlalchemy import Connection

from pgqrs.errors import UnavailableError

__all__ = ["Limit"]


class Limit:
    """Watches one thread's use of a connection from another thread, which starts when needed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: tuple[float, int] | None = None
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def over(self, connection: Connection) -> Self:
        """Limit the time of a `with` block. Raises UnavailableError for a lost connection."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="pgqrs-limit", daemon=True)
            self._thread.start()
        raw: Any = connection.connection.dbapi_connection
        try:
            self._until = (time.monotonic() + self._seconds, raw.pgconn.socket)
        except OperationalError as error:
            raise UnavailableError(f"the connection was lost: {error}") from error
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._until = None

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(self._seconds / 4, 1.0)):
            limit = self._until
            if limit is not None and time.monotonic() > limit[0]:
                self._until = None
                with suppress(OSError), socket.socket(fileno=os.dup(limit[1])) as silent:
                    silent.shutdown(socket.SHUT_RDWR)
