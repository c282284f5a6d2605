"""Beats for workers that hold leases: one daemon thread a process and engine.

It has a connection of its own and is a plain thread under asyncio too, so neither a blocked event
loop nor an exhausted pool silences a worker that is alive.
"""

from __future__ import annotations

import logging
import math
import threading
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from pgqrs.errors import PgqrsError
from pgqrs.forking import forget_in_child
from pgqrs.ledger import Ledger
from pgqrs.operations import workers
from pgqrs.registration import Registration
from pgqrs.translation import translated

__all__ = ["Heartbeat", "heartbeat_for"]

_log: Final = logging.getLogger(__name__)


class Heartbeat:
    """Beats for those of its workers whose ledgers hold unexpired leases."""

    def __init__(self) -> None:
        self._connect: Callable[[], Callable[[], Engine] | None]
        self._interval = math.inf
        self._kept: MutableMapping[Ledger, Registration] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._failing = False
        forget_in_child(self)

    def reach(self, connect: Callable[[], Engine], interval: float) -> None:
        """Say how to connect, and how often to beat: as often as any of its workers wants."""
        # The method's object holds the engine that this is kept for as long as it lives.
        self._connect = weakref.WeakMethod(connect)
        if interval < self._interval:
            self._interval = interval
            self._wake.set()

    def keeps(self, ledger: Ledger) -> bool:
        """Say whether it beats for this ledger's worker."""
        thread = self._thread
        return ledger in self._kept and thread is not None and thread.is_alive()

    def keep(self, ledger: Ledger, registration: Registration) -> None:
        """Beat for this worker from now on, while its ledger holds a lease."""
        with self._lock:
            self._kept[ledger] = registration
            connect = self._connect()
            if connect is not None and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(
                    target=self._beat_until_unused,
                    args=(connect,),
                    name="pgqrs-heartbeat",
                    daemon=True,
                )
                self._thread.start()

    def drop(self, ledger: Ledger) -> None:
        """Beat no more for this ledger's worker; the thread ends with the last one."""
        with self._lock:
            self._kept.pop(ledger, None)
            if not self._kept:
                self._wake.set()

    def after_fork_in_child(self) -> None:
        """Threads stay with the parent, and so do its leases."""
        self._thread = None
        self._kept = weakref.WeakKeyDictionary()
        self._wake = threading.Event()
        self._lock = threading.Lock()

    def _beat_until_unused(self, connect: Callable[[], Engine]) -> None:
        engine = connect()
        try:
            while not self._is_unused():
                if not self._wake.wait(self._interval):
                    self._beat(engine)
                self._wake.clear()
        finally:
            engine.dispose()

    def _is_unused(self) -> bool:
        with self._lock:
            if not len(self._kept):
                self._thread = None  # so that whoever comes next starts another
            return self._thread is None

    def _beat(self, engine: Engine) -> None:
        holding: dict[str, dict[int, Registration]] = {}
        with self._lock:
            kept = list(self._kept.items())
        for ledger, registration in kept:
            if registration.worker_id is not None and ledger.holds_any():
                held = holding.setdefault(registration.config.schema_, {})
                held[registration.worker_id] = registration
        try:
            for schema, held in holding.items():
                with translated(schema), engine.connect() as connection:
                    workers.beat(connection, schema, held.keys())
                for registration in held.values():
                    registration.beaten()
        except (PgqrsError, SQLAlchemyError) as error:
            if not self._failing:
                _log.warning("heartbeats fail and will be tried again: %s", error)
            self._failing = True
        else:
            if self._failing:
                _log.info("heartbeats reach the server again")
            self._failing = False


_hearts: Final[MutableMapping[Any, Heartbeat]] = weakref.WeakKeyDictionary()


def heartbeat_for(engine: Any, connect: Callable[[], Engine], interval: float) -> Heartbeat:
    """Give the heartbeat of an engine; `connect`, a method, makes the engine that it will use."""
    heart = _hearts.get(engine)
    if heart is None:
        heart = _hearts.setdefault(engine, Heartbeat())
    heart.reach(connect, interval)
    return heart
