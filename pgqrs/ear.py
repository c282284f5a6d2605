"""Wait on a connection for notifications, or to be woken from another thread.

The connection that listens also leases: between a notification and a lease there is no other
thread or connection.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from psycopg import Notify, OperationalError
from sqlalchemy import Connection

from pgqrs.closing import Closing
from pgqrs.errors import UnavailableError
from pgqrs.limit import Limit
from pgqrs.statements import wake as sql

__all__ = ["Ear", "Waker"]


class Waker:
    """Ends the waiting of another thread; a socket, so that both can be waited for at once."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._woken = False

    def fileno(self) -> int:
        """Give what to wait for."""
        return self._read.fileno()

    def wake(self) -> None:
        """End the waiting, now or the next."""
        if self._woken:
            return
        self._woken = True
        with suppress(OSError):  # it is closed, and nobody waits
            self._write.send(b"\0")

    def clear(self) -> None:
        """Forget that it was woken."""
        with suppress(BlockingIOError):
            self._read.recv(4096)
        self._woken = False  # after the reading, so that no waking is lost in between

    def close(self) -> None:
        """Free the sockets."""
        self._read.close()
        self._write.close()


class Ear(Closing):
    """Listens on one connection; knows which channels rang since it was last asked."""

    def __init__(self, connection: Connection, waker: Waker, limit: Limit) -> None:
        self.connection = connection
        raw: Any = connection.connection.driver_connection
        self._raw = raw
        self._waker = waker
        self._limit = limit
        self._rung: set[str] = set()
        self._channels: set[str] = set()
        self._raw.add_notify_handler(self._hear)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._raw.pgconn.socket, selectors.EVENT_READ)
        self._selector.register(waker, selectors.EVENT_READ)

    def listen(self, channels: Iterable[str]) -> None:
        """Listen on channels, which takes effect before the next statement."""
        with self._limit.over(self.connection):
            for channel in channels:
                self.connection.execute(sql.listen(channel))
                self._channels.add(channel)

    def unlisten(self, channel: str) -> None:
        """Listen on a channel no more."""
        with self._limit.over(self.connection):
            self.connection.execute(sql.unlisten(channel))
        self._channels.discard(channel)

    def check(self) -> None:
        """Ask the server what this listens on. Raises UnavailableError where it does not know."""
        with self._limit.over(self.connection):
            known = set(self.connection.execute(sql.listening_to()).scalars())
        if not self._channels <= known:
            raise UnavailableError("the server forgot who listens")

    def wait(self, seconds: float) -> set[str]:
        """Wait for a notification, to be woken, or so long; give the channels that rang.

        Raises UnavailableError where the connection is lost.
        """
        if not self._rung:
            for key, _ in self._selector.select(seconds):
                if key.fileobj is self._waker:
                    self._waker.clear()
                else:
                    self._receive()
        rung, self._rung = self._rung, set()
        return rung

    def close(self) -> None:
        """Stop hearing; the connection goes on."""
        self._selector.close()
        self._raw.remove_notify_handler(self._hear)

    def _receive(self) -> None:
        pgconn = self._raw.pgconn
        try:
            pgconn.consume_input()
        except OperationalError as error:
            raise UnavailableError(f"the connection was lost: {error}") from error
        while (heard := pgconn.notifies()) is not None:
            self._rung.add(heard.relname.decode())

    def _hear(self, heard: Notify) -> None:
        self._rung.add(heard.channel)
