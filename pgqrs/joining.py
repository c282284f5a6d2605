"""What is looked at before a transaction of the caller's is used; nothing of it is changed."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.engine import Transaction, TwoPhaseTransaction
from sqlalchemy.pool import Pool

from pgqrs.errors import InvalidStateError, PgqrsError
from pgqrs.statements.isolation import isolation_level

__all__ = [
    "AT_ONCE",
    "IsolationLevelError",
    "autocommits",
    "check_isolation",
    "entered",
    "in_read_committed",
    "may_notify",
]

T = TypeVar("T")

AT_ONCE: Final[dict[str, Any]] = {"stream_results": False, "yield_per": None}
"""Results are read at once, whatever the host's engine or connection does with its own."""

_told: Final[weakref.WeakSet[Pool]] = weakref.WeakSet()
_checked: Final[weakref.WeakSet[Transaction]] = weakref.WeakSet()


class IsolationLevelError(InvalidStateError):
    """A consumer was to act in a transaction whose snapshot hides what others did to messages."""

    def __init__(self, level: str) -> None:
        PgqrsError.__init__(
            self,
            f"the transaction is {level.upper()}, and a consumer can lease and acknowledge only in"
            " READ COMMITTED: begin it so, or call the consumer outside of it",
        )
        self.current = level.upper()
        self.wanted = "READ COMMITTED"


class _AtOnce:
    """A Connection of the caller's that streams results, for statements that cannot be streamed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: Any, parameters: Any = None) -> Any:
        return self._connection.execute(statement, parameters, execution_options=AT_ONCE)

    def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return self.execute(statement, parameters).scalar()


def entered(connection: Connection) -> Connection:
    """Give a connection of the caller's in the form that operations take.

    It does not stream, whatever its options. One in autocommit is warned of, once for its pool.
    """
    if autocommits(connection):
        _warn(connection.engine.pool)
    # Only the caller may set options on it: they would stay.
    options = connection.get_execution_options()
    if options.get("stream_results") or options.get("yield_per"):
        return cast("Connection", _AtOnce(connection))
    return connection


def autocommits(connection: Connection) -> bool:
    """Say whether each statement is committed by itself; the driver knows, nothing is sent."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def may_notify(connection: Connection) -> bool:
    """Say whether the transaction may carry a NOTIFY: PostgreSQL prepares none that does."""
    return not isinstance(connection.get_transaction(), TwoPhaseTransaction)


def check_isolation(connection: Connection) -> None:
    """Raise IsolationLevelError unless the transaction is READ COMMITTED.

    The server is asked, once for each transaction, since a level can also be set by SQL; it does
    not change after that. The question takes no snapshot.
    """
    if connection.get_transaction() in _checked:
        return
    level = connection.scalar(isolation_level())
    if level not in ("read committed", "read uncommitted"):  # which are the same to PostgreSQL
        raise IsolationLevelError(level)
    if (transaction := connection.get_transaction()) is not None:
        _checked.add(transaction)


def in_read_committed(step: Callable[[Connection], T]) -> Callable[[Connection], T]:
    """Give a step that looks at the isolation of its transaction first."""

    def run(connection: Connection) -> T:
        check_isolation(connection)
        return step(connection)

    return run


def _warn(pool: Pool) -> None:
    if pool not in _told:
        _told.add(pool)
        warnings.warn(
            "a connection in AUTOCOMMIT has no transaction to join: what pgqrs does `within` it is"
            " done at once, and stays when the host's own work fails; use another isolation level,"
            " or call the producer or consumer itself",
            RuntimeWarning,
            stacklevel=2,
        )
