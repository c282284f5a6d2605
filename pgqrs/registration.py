"""The row of a worker: made when first needed, shared within the process, kept alive, stopped.

Objects of one engine, queue and role share a row, which is stopped when the last of them closes;
an explicit port makes a row of its own.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
import weakref
from collections.abc import MutableMapping
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.config import Config
from pgqrs.forking import forget_in_child
from pgqrs.operations import workers
from pgqrs.operations.workers import Address

__all__ = ["Registration", "registration_for"]


class Registration:
    """One worker: where it is registered, under which id, and when it last beat."""

    def __init__(self, address: Address, config: Config) -> None:
        self.address = address
        self.config = config
        self.queue_id: int | None = None
        self.worker_id: int | None = None
        self._users = 0
        self._beat_at = 0.0
        forget_in_child(self)

    def ensure(self, connection: Connection) -> tuple[int, int]:
        """Give (queue id, worker id), registering if need be.

        Raises QueueNotFoundError, WorkerExistsError.
        """
        if self.worker_id is not None and self.queue_id is not None:
            return self.queue_id, self.worker_id
        stale = dt.timedelta(seconds=self.config.stale_after_seconds)
        schema = self.config.schema_
        mine = workers.register(connection, schema, self.address, stale)
        # No lock is held while waiting for the server, so another thread may have been first.
        with _lock:
            if self.worker_id is None or self.queue_id is None:
                self.queue_id, self.worker_id = mine
                self._beat_at = time.monotonic()
            first = self.queue_id, self.worker_id
        if first != mine:
            workers.stop(connection, schema, mine[1])
        return first

    def join(self) -> None:
        """Count one more object that uses this row."""
        with _lock:
            self._users += 1

    def leave(self) -> bool:
        """Count one less; True where that was the last."""
        with _lock:
            self._users -= 1
            return self._users <= 0

    def beat_if_due(self, connection: Connection) -> None:
        """Beat, if the last heartbeat is an interval ago."""
        due = self._beat_at + self.config.heartbeat_interval_seconds
        if self.worker_id is not None and time.monotonic() >= due:
            self.beaten()
            workers.beat(connection, self.config.schema_, [self.worker_id])

    def beaten(self) -> None:
        """Note that a heartbeat was sent."""
        self._beat_at = time.monotonic()

    def forget(self) -> None:
        """Forget the row, so that the next use registers anew (the queue was made again)."""
        self.queue_id = self.worker_id = None

    def after_fork_in_child(self) -> None:
        """Forget the row, which is the parent's."""
        self.forget()


_lock = threading.Lock()
_Key = tuple[str, Address]
_shared: Final[MutableMapping[Any, dict[_Key, Registration]]] = weakref.WeakKeyDictionary()


def registration_for(engine: Any, address: Address, config: Config) -> Registration:
    """Give the registration to use: shared for this engine unless the address has a port."""
    if engine is None or address.port is not None:
        return Registration(address, config)
    with _lock:
        mine = _shared.setdefault(engine, {})
        return mine.setdefault((config.schema_, address), Registration(address, config))


class _Lock:
    def after_fork_in_child(self) -> None:
        global _lock
        _lock = threading.Lock()


_FORGET: Final = _Lock()
forget_in_child(_FORGET)
