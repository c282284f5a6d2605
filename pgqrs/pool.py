"""The pool of pgqrs's own engines: a connection stays at hand from one call to the next.

Taking a connection out of SQLAlchemy's pool and giving it back costs a sixth of the client's time
for a call. So what a call leaves is kept, checked out, for the next call of any thread, until
somebody needs one from the pool itself.
"""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, QueuePool, event, exc
from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["HandyPool", "check_at_checkout"]

_IS_USABLE: Final = "pgqrs_is_usable"  # in the pool's notes on a connection
_IS_NEW: Final = "pgqrs_is_new"


class HandyPool(QueuePool):
    """A pool with connections at hand, as long as no more are open than its size."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What SQLAlchemy says of a pool is not said in pgqrs's name.
        self.logger = logging.getLogger(f"{QueuePool.__module__}.{QueuePool.__name__}")
        self._at_hand: list[Connection] = []
        self._seekers = 0  # who wants one from the pool itself just now
        self._is_disposed = False
        self._changing = threading.RLock()  # a signal handler may call meanwhile

    def take(self) -> Connection | None:
        """Give a connection that is at hand, in autocommit and open as far as can be seen."""
        while True:
            with self._changing:
                if not self._at_hand:
                    return None
                connection = self._at_hand.pop()
            if connection.connection.info[_IS_USABLE]():
                return connection
            connection.invalidate()
            connection.close()

    def keep(self, connection: Connection) -> None:
        """Have a connection at hand after a call that went well, or give it back to the pool."""
        with self._changing:
            if not self._seekers and self.overflow() <= 0 and not connection.invalidated:
                self._at_hand.append(connection)
                return
        self.give_back(connection)

    def give_back(self, connection: Connection) -> None:
        """Give a connection back to the pool, as after a call that failed."""
        connection.close()
        if self._is_disposed:  # SQLAlchemy would keep it for nobody
            super().dispose()

    def give_back_all(self) -> None:
        """Give back what is at hand.

        Where one connection was lost, so are they: when they are taken again, SQLAlchemy replaces
        all that are older than the loss.
        """
        with self._changing:
            given, self._at_hand = self._at_hand, []
        for connection in given:
            connection.close()

    def dispose(self) -> None:
        """Close what is idle; nothing is at hand any more."""
        self._is_disposed = True
        with self._changing:
            self._seekers += 1
        self.give_back_all()
        super().dispose()

    def _do_get(self) -> ConnectionPoolEntry:
        with self._changing:
            self._seekers += 1
        try:
            self.give_back_all()
            return super()._do_get()
        finally:
            with self._changing:
                self._seekers -= 1


def check_at_checkout(engine: Engine) -> None:
    """Have connections that cannot be used any more replaced when they leave the engine's pool.

    With one that was lost all that are at hand go back to it.
    """

    @event.listens_for(engine, "connect")
    def equip(_dbapi: Any, record: Any) -> None:
        record.info[_IS_USABLE] = _looking_at(record.driver_connection.pgconn)
        record.info[_IS_NEW] = True

    @event.listens_for(engine, "invalidate")
    def lost(*_: object) -> None:
        if isinstance(engine.pool, HandyPool):
            engine.pool.give_back_all()

    @event.listens_for(engine, "checkout")
    def check(_dbapi: Any, record: Any, _proxy: Any) -> None:
        # SQLAlchemy replaces one; if the new one is as bad, that shows when it is used.
        if not record.info.pop(_IS_NEW, False) and not record.info[_IS_USABLE]():
            raise exc.DisconnectionError


def _looking_at(pgconn: Any) -> Callable[[], bool]:
    """Give what says whether a connection of libpq's seems open, and no transaction is.

    One that is idle has nothing to read; one that the server closed has. This asks the socket, not
    the server, so it costs no round trip. One in which somebody left a transaction open, by a BEGIN
    of their own, is of no use either: nothing is rolled back in autocommit.
    """
    has_news = _asking(pgconn.socket)

    def is_usable() -> bool:  # of a lost one the status is unknown
        return pgconn.transaction_status == TransactionStatus.IDLE and not has_news()

    return is_usable


def _asking(descriptor: int) -> Callable[[], object]:
    """Give what says whether there is anything to read there."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP | select.POLLERR)
        return partial(poll.poll, 0)
    return lambda: select.select([descriptor], [], [], 0)[0]
