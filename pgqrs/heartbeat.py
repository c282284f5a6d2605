"""Beats for workers that hold leases: one daemon thread a process and engine.

It has a connection of its own and is a plain thread under asyncio too, so neither a blocked event
loop nor an exhausted pool silences a worker that is alive.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from pgqrs.forking import forget_in_child
from pgqrs.ledger import Ledger
from pgqrs.operations import workers
from pgqrs.registration import Registration

__all__ = ["Heartbeat", "heartbeat_for"]

_log: Final = logging.getLogger(__name__)


class Heartbeat:
    """Beats for those of its workers whose ledgers hold unexpired leases."""

    def __init__(self, connect: Callable[[], Engine], interval: float) -> None:
        self._connect = connect
        self._interval = interval
        self._kept: MutableMapping[Ledger, Registration] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._failing = False
        forget_in_child(self)

    def keep(self, ledger: Ledger, registration: Registration) -> None:
        """Beat for this worker from now on, while its ledger holds a lease."""
        self._kept[ledger] = registration
        if self._thread is None or not self._thread.is_alive():
            self._wake = threading.Event()
            self._thread = threading.Thread(
                target=self._beat_until_unused, name="pgqrs-heartbeat", daemon=True
            )
            self._thread.start()

    def drop(self, ledger: Ledger) -> None:
        """Beat no more for this ledger's worker; the thread ends with the last one."""
        self._kept.pop(ledger, None)
        if not self._kept:
            self._wake.set()

    def after_fork_in_child(self) -> None:
        """Threads stay with the parent, and so do its leases."""
        self._thread = None
        self._kept = weakref.WeakKeyDictionary()

    def _beat_until_unused(self) -> None:
        engine = self._connect()
        wake = self._wake
        try:
            while not wake.wait(self._interval) and len(self._kept):
                self._beat(engine)
        finally:
            engine.dispose()

    def _beat(self, engine: Engine) -> None:
        holding: dict[str, set[int]] = {}
        for ledger, registration in list(self._kept.items()):
            if registration.worker_id is not None and ledger.holds_any():
                schema = registration.config.schema_
                holding.setdefault(schema, set()).add(registration.worker_id)
                registration.beaten()
        try:
            for schema, worker_ids in holding.items():
                with engine.connect() as connection:
                    workers.beat(connection, schema, worker_ids)
        except SQLAlchemyError as error:
            if not self._failing:
                _log.warning("heartbeats fail and will be tried again: %s", error)
            self._failing = True
        else:
            if self._failing:
                _log.info("heartbeats reach the server again")
            self._failing = False


_hearts: Final[MutableMapping[Any, Heartbeat]] = weakref.WeakKeyDictionary()


def heartbeat_for(engine: Any, connect: Callable[[], Engine], interval: float) -> Heartbeat:
    """Give the heartbeat of an engine; `connect` makes the engine that it will use."""
    return _hearts.setdefault(engine, Heartbeat(connect, interval))
