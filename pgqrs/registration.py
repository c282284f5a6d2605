"""The row of a worker: made when first needed, shared within the process, kept alive, stopped.

Objects of one engine, queue and role share a row, which is stopped when the last of them closes;
an explicit port makes a row of its own.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
import time
import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.config import Config
from pgqrs.errors import WorkerExistsError
from pgqrs.forking import forget_in_child
from pgqrs.operations import workers
from pgqrs.operations.workers import Address
from pgqrs.policy import QueuePolicy

__all__ = ["Registration", "registration_for", "standing"]


class Registration:
    """One worker: where it is registered, under which id, and when it last beat."""

    def __init__(self, address: Address, config: Config) -> None:
        self.address = address
        self.config = config
        self.queue_id: int | None = None
        self.worker_id: int | None = None
        self.policy = QueuePolicy.STANDARD
        """The queue's, once there is a row."""
        self._users: int | None = None
        self._beat_at = 0.0
        self._forgotten: int | None = None
        self._turn = threading.Lock()
        self._registrar: int | None = None
        forget_in_child(self)

    @property
    def is_over(self) -> bool:
        """Whether nobody uses it any more, and no row is left."""
        return self._users == 0 and self.worker_id is None

    def ensure(self, connection: Connection) -> tuple[int, int]:
        """Give (queue id, worker id), registering if need be.

        Raises QueueNotFoundError, WorkerExistsError.
        """
        known = self._known()
        if known is not None:
            return known
        if self._registrar == threading.get_ident():
            # Tasks of an event loop cannot wait here for one another: the first to return wins.
            return self._register(connection)
        with self._turn:
            self._registrar = threading.get_ident()
            try:
                return self._known() or self._register(connection)
            finally:
                self._registrar = None

    def stop(self, connection: Connection) -> None:
        """Mark the row stopped, if there is one; the next use registers anew."""
        self.forget()
        self._stop_forgotten(connection)

    def join(self) -> None:
        """Count one more object that uses this row."""
        with _lock:
            self._users = (self._users or 0) + 1

    def leave(self) -> bool:
        """Count one less; True where that was the last."""
        with _lock:
            self._users = (self._users or 1) - 1
            return self._users == 0

    def beat_if_due(self, connection: Connection) -> None:
        """Beat, if the last heartbeat is an interval ago."""
        due = self._beat_at + self.config.heartbeat_interval_seconds
        if self.worker_id is not None and time.monotonic() >= due:
            workers.beat(connection, self.config.schema_, [self.worker_id])
            self.beaten()

    def beaten(self) -> None:
        """Note that a heartbeat was sent."""
        self._beat_at = time.monotonic()

    def forget(self) -> None:
        """Forget the row, so that the next use registers anew (the queue was made again)."""
        self._forgotten, self.queue_id, self.worker_id = self.worker_id, None, None

    def after_fork_in_child(self) -> None:
        """Forget the row, which is the parent's."""
        self._forgotten = self.queue_id = self.worker_id = self._registrar = None
        self._turn = threading.Lock()

    def _known(self) -> tuple[int, int] | None:
        queue_id, worker_id = self.queue_id, self.worker_id
        return None if queue_id is None or worker_id is None else (queue_id, worker_id)

    def _register(self, connection: Connection) -> tuple[int, int]:
        stale = dt.timedelta(seconds=self.config.stale_after_seconds)
        schema = self.config.schema_
        self._stop_forgotten(connection)
        try:
            *mine, policy = workers.register(connection, schema, self.address, stale)
        except WorkerExistsError:
            known = self._known()
            if known is None:
                raise
            return known
        with _lock:
            first = self._known() or (mine[0], mine[1])
            self.policy = policy
            self.queue_id, self.worker_id = first
            self._beat_at = time.monotonic()
        if first[1] != mine[1]:
            workers.stop(connection, schema, mine[1])
        return first

    def _stop_forgotten(self, connection: Connection) -> None:
        if self._forgotten is not None:
            workers.stop(connection, self.config.schema_, self._forgotten)
            self._forgotten = None


_lock = threading.Lock()
_Key = tuple[str, Address, int]
_places: Final[MutableMapping[Any, dict[_Key, Registration]]] = weakref.WeakKeyDictionary()
_numbers = itertools.count(1)


def registration_for(engine: Any, address: Address, config: Config) -> Registration:
    """Give the registration to use: shared for this engine unless the address has a port."""
    if engine is None:
        return Registration(address, config)
    with _lock:
        here = _places.setdefault(engine, {})
        for key in [key for key, one in here.items() if one.address.port and one.is_over]:
            del here[key]
        key = (config.schema_, address, next(_numbers) if address.port is not None else 0)
        if key not in here:
            here[key] = Registration(address, config)
        return here[key]


def standing() -> Iterator[tuple[Any, list[Registration]]]:
    """Give the registrations that have a row, by engine (or what stands for one)."""
    for engine, here in list(_places.items()):
        rows = [one for one in list(here.values()) if one.worker_id is not None]
        if rows:
            yield engine, rows


class _Lock:
    def after_fork_in_child(self) -> None:
        global _lock
        _lock = threading.Lock()


_FORGET: Final = _Lock()
forget_in_child(_FORGET)
