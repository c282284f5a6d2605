"""Maintenance by worker processes themselves: one of them at a time, elected by a row.

A daemon thread with a connection of its own for as long as a round takes, so that a VACUUM keeps
nobody from leasing.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pgqrs.config import Config
from pgqrs.cursors import take_time
from pgqrs.errors import PgqrsError
from pgqrs.operations import maintain
from pgqrs.operations.maintain import MaintenanceTerms
from pgqrs.translation import translated
from pgqrs.types import Maintenance

__all__ = ["VACUUM_AFTER", "Caretaker"]

VACUUM_AFTER: Final = 100_000
"""Leases of this process after which it looks whether the table wants a VACUUM."""

_DEAD_ROWS: Final = 50_000
"""How many dead rows are worth a VACUUM: each life of a message leaves two."""
_TERM: Final = 1.5
"""For how many intervals the elected one is: it is back before that, and dead after it."""
_JITTER: Final = 0.1

_log: Final = logging.getLogger("pgqrs.maintenance")


class Caretaker:
    """Maintains every `cleanup_interval_seconds`, while this worker is the elected one."""

    def __init__(
        self, connect: Callable[[], Engine], identify: Callable[[Connection], int], config: Config
    ) -> None:
        self._connect = connect
        self._identify = identify
        self._config = config
        self._leased = 0
        self._wake = threading.Event()
        self._closed = False
        self._failing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, unless the interval is 0: then nothing is maintained from here."""
        if self._config.cleanup_interval_seconds > 0:
            care = threading.Thread(target=self._care, name="pgqrs-maintenance", daemon=True)
            self._thread = care
            care.start()

    def leased(self, count: int) -> None:
        """Count leases; after many of them the table of messages may want a VACUUM."""
        self._leased += count
        if self._leased >= VACUUM_AFTER:
            self._leased = 0
            self._wake.set()

    def close(self, patience: float = 1.0) -> None:
        """End; a round that is under way has so many seconds, and is left to itself then."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(patience)

    def _care(self) -> None:
        interval = self._config.cleanup_interval_seconds
        next_round = time.monotonic() + interval * random.uniform(0, _JITTER)  # noqa: S311
        while not self._closed:
            full = self._wake.wait(max(next_round - time.monotonic(), 0)) is False
            self._wake.clear()
            if self._closed:
                return
            if full:
                spread = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - not a secret
                next_round = time.monotonic() + interval * spread
            self._round(full=full)

    def _round(self, *, full: bool) -> None:
        engine = self._connect()
        try:
            with translated(self._config.schema_), engine.connect() as connection:
                self._maintain(connection, full=full)
        except (PgqrsError, SQLAlchemyError) as error:
            if not self._failing:
                _log.warning("maintenance fails and will be tried again: %s", error)
            self._failing = True
        else:
            self._failing = False
        finally:
            engine.dispose()

    def _maintain(self, connection: Connection, *, full: bool) -> None:
        config, schema = self._config, self._config.schema_
        term = dt.timedelta(seconds=config.cleanup_interval_seconds * _TERM)
        if not maintain.lead(connection, schema, self._identify(connection), term):
            return
        done = Maintenance()
        if full:
            stale = dt.timedelta(seconds=config.stale_after_seconds)
            terms = MaintenanceTerms(config.max_attempts, stale)
            done = maintain.maintain(connection, schema, terms)
        take_time(connection)
        if not config.pooler:  # behind one the server's connection is not ours alone
            maintain.take_time(connection)
        vacuumed = maintain.vacuum(connection, schema, _DEAD_ROWS)
        if vacuumed or done != Maintenance():
            _log.info("maintained: %s%s", done, ", vacuumed" if vacuumed else "")
