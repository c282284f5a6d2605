"""How a waiting process hears: proves that notifications arrive, or says why it only polls.

LISTEN through a pooler in transaction mode fails without an error, so it is believed only on a
connection that leads straight to the server, or when a notification sent to oneself arrived.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from pgqrs import engines
from pgqrs.config import Config
from pgqrs.ear import Ear, Waker
from pgqrs.errors import UnavailableError
from pgqrs.limit import Limit
from pgqrs.statements import wake as sql

__all__ = ["Listener"]

_PATIENCE: Final = 2.0
"""Seconds in which a notification sent to oneself must arrive."""
_TRY_AGAIN: Final = 60.0
"""Seconds after which listening that failed is tried again."""


class _DeafError(Exception):
    """Why notifications are not heard; `again` says whether that may change by itself."""

    def __init__(self, why: str, *, again: bool = False) -> None:
        super().__init__(why)
        self.again = again


class Listener:
    """Opens the ears of one process, and tells in a sentence how they hear, when that changes.

    `tell` is given the sentence, and whether all is as it was asked for.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        config: Config,
        channels: Sequence[str],
        limit: Limit,
        tell: Callable[[str, bool], object],
    ) -> None:
        self._connect = connect
        self._config = config
        self._channels = channels
        self._limit = limit
        self._tell = tell
        self._told: str | None = None
        self._check_at = 0.0
        self._try_again_at: float | None = None

    @contextmanager
    def ear(self, connection: Connection, waker: Waker) -> Iterator[Ear]:
        """Give an ear on this connection, or on the direct one that is configured for it."""
        self._try_again_at = None
        with ExitStack() as stack:
            try:
                ear, how = self._listening(connection, waker, stack)
            except _DeafError as error:
                self._note_deaf(error)
                ear = stack.enter_context(Ear(connection, waker, self._limit))
            else:
                self._say(f"listening on {how}, and polling {self._often()} besides", good=True)
            self._check_at = time.monotonic() + self._config.heartbeat_interval_seconds
            yield ear

    @property
    def wants_another(self) -> bool:
        """Whether it is time to open another ear, because this one failed to listen."""
        return self._try_again_at is not None and time.monotonic() >= self._try_again_at

    def check_if_due(self, ear: Ear) -> None:
        """Ask the server now and then whether it still knows who listens.

        Raises UnavailableError where it does not.
        """
        if time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + self._config.heartbeat_interval_seconds
            ear.check()

    def _listening(self, connection: Connection, waker: Waker, stack: ExitStack) -> tuple[Ear, str]:
        if not self._config.enable_listen_notify:
            raise _DeafError("enable_listen_notify is off")
        if self._config.listen_dsn is not None:
            ear = stack.enter_context(Ear(self._direct(stack), waker, self._limit))
            self._listen_apart(ear, connection)
            return ear, "the connection of listen_dsn"
        if self._config.pooler:
            raise _DeafError("a pooler stands before the server, and listen_dsn is not set")
        ear = stack.enter_context(Ear(connection, waker, self._limit))
        how = self._through(ear, connection)
        ear.listen(self._channels)
        return ear, how

    def _direct(self, stack: ExitStack) -> Connection:
        engine = engines.single(self._config.for_listening())
        stack.callback(engine.dispose)
        try:
            return stack.enter_context(engine.connect())
        except SQLAlchemyError as error:
            reason = f"listen_dsn cannot be reached: {_first_line(error)}"
            raise _DeafError(reason, again=True) from error

    def _listen_apart(self, ear: Ear, connection: Connection) -> None:
        try:
            self._prove(ear, connection, "listen_dsn leads to another database, or to a pooler")
            ear.listen(self._channels)
        except (SQLAlchemyError, UnavailableError) as error:
            raise _DeafError(
                f"listen_dsn is of no use: {_first_line(error)}", again=True
            ) from error

    def _through(self, ear: Ear, connection: Connection) -> str:
        raw: Any = connection.connection.driver_connection
        with self._limit.over(connection):
            served_by = connection.scalar(sql.backend_pid())
        if served_by == raw.info.backend_pid:
            return "a direct connection"
        engine = self._connect()
        stay = "a pooler stands before the server and drops notifications: set listen_dsn"
        try:
            with engine.connect() as other:
                self._prove(ear, other, stay)
        finally:
            engine.dispose()
        return "a connection through a pooler that keeps sessions"

    def _prove(self, ear: Ear, other: Connection, why_not: str) -> None:
        channel = sql.channel_of(self._config.schema_, uuid.uuid4().hex)
        ear.listen([channel])
        until = time.monotonic() + _PATIENCE
        with self._limit.over(other):
            other.execute(sql.notify(), {"channel": channel, "message": ""})
        heard = False
        while not heard and time.monotonic() < until:
            heard = channel in ear.wait(until - time.monotonic())
        ear.unlisten(channel)
        if not heard:
            raise _DeafError(why_not, again=True)

    def _note_deaf(self, error: _DeafError) -> None:
        asked_for = not self._config.enable_listen_notify
        self._say(f"polling {self._often()} only: {error}", good=asked_for)
        if error.again:
            self._try_again_at = time.monotonic() + _TRY_AGAIN

    def _often(self) -> str:
        return f"every {self._config.poll_interval_seconds:g} s"

    def _say(self, sentence: str, *, good: bool) -> None:
        if sentence != self._told:
            self._told = sentence
            self._tell(sentence, good)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().partition("\n")[0]
