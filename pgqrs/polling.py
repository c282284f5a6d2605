"""Wait for messages without handlers: what `poll` and iteration do, for sync and asyncio alike.

Listens and leases on one connection of its own, which is made again when it is lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from sqlalchemy import Connection, Engine

from pgqrs.call import Call
from pgqrs.config import Config
from pgqrs.ear import Ear, Waker
from pgqrs.errors import UnavailableError
from pgqrs.limit import Limit
from pgqrs.listening import Listener
from pgqrs.operations.lease import Lease
from pgqrs.patience import Patience, backoff
from pgqrs.statements.wake import channel_of
from pgqrs.translation import translated
from pgqrs.types import QueueMessage

__all__ = ["Poller"]

_log: Final = logging.getLogger("pgqrs.poll")


class Poller:
    """Waits for the messages of one queue; for one thread at a time."""

    def __init__(self, queue: str, connect: Callable[[], Engine], config: Config) -> None:
        self._connect = connect
        self._config = config
        self._waker = Waker()
        self._limit = Limit(config.query_timeout_seconds * 1.5)
        channels = [channel_of(config.schema_, queue)]
        self._listener = Listener(connect, config, channels, self._limit, _tell)
        self._connection: Connection | None = None
        self._ear: Ear | None = None
        self._stack = ExitStack()
        self._stopped = False

    def poll(self, lease: Call[Lease], timeout: float | None) -> list[QueueMessage]:
        """Lease, waiting up to `timeout` seconds (None: for ever) until there is something."""
        until = None if timeout is None else time.monotonic() + timeout
        patience = Patience(self._config.poll_interval_seconds)
        pauses, away = backoff(), False
        while not self._stopped:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            try:
                found = self._look(lease)
                if found.messages:
                    return found.messages
                patience.found(0, 1, found.due_in)
                if left == 0:
                    return []
                wait = patience.remaining()
                self._hear(wait if left is None else min(wait, left))
                pauses, away = backoff(), False
            except UnavailableError as error:
                self._hang_up()
                if left == 0:
                    raise
                if not away:
                    _log.warning("the server is away, and will be tried again: %s", error)
                away = True
                pause = next(pauses)
                time.sleep(pause if left is None else min(pause, left))
        self._stopped = False
        return []

    def stop(self) -> None:
        """End the waiting that is under way, or the next, from another thread too."""
        self._stopped = True
        self._waker.wake()

    def resume(self) -> None:
        """Forget a stop that nothing was waiting for."""
        self._stopped = False

    def close(self) -> None:
        """Free the connection. Idempotent."""
        self.stop()
        self._hang_up()
        self._limit.close()
        self._waker.close()

    def _look(self, lease: Call[Lease]) -> Lease:
        with translated(self._config.schema_):
            if self._listener.wants_another:
                self._hang_up()
            connection, ear = self._opened()
            self._listener.check_if_due(ear)
            with self._limit.over(connection):
                return lease.step(connection)

    def _hear(self, seconds: float) -> None:
        if self._ear is not None:
            self._ear.wait(seconds)

    def _opened(self) -> tuple[Connection, Ear]:
        if self._connection is None or self._ear is None:
            self._hang_up()
            engine = self._connect()
            self._stack.callback(engine.dispose)
            self._connection = engine.connect()
            self._stack.callback(_drop, self._connection)
            hearing = self._listener.ear(self._connection, self._waker)
            self._ear = self._stack.enter_context(hearing)
        return self._connection, self._ear

    def _hang_up(self) -> None:
        self._ear = self._connection = None
        self._stack.close()


def _drop(connection: Connection) -> None:
    connection.invalidate()
    connection.close()


def _tell(sentence: str, good: bool) -> None:  # noqa: FBT001 - how a Listener tells
    _log.log(logging.DEBUG if good else logging.WARNING, "%s", sentence)
