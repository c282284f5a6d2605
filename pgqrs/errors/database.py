"""What PostgreSQL, or the connection to it, could not do."""

from __future__ import annotations

from pgqrs.errors.asking import PgqrsError

__all__ = [
    "DatabaseError",
    "OutcomeUnknownError",
    "QueryTimeoutError",
    "UnavailableError",
]


class DatabaseError(PgqrsError):
    """PostgreSQL or the connection failed; `sqlstate` is its code, if it sent one."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class UnavailableError(DatabaseError):
    """The server cannot be reached or cannot answer just now; the same call may work later."""

    retryable = True


class QueryTimeoutError(DatabaseError, TimeoutError):
    """A statement ran longer than `query_timeout_seconds` and was cancelled."""


class OutcomeUnknownError(DatabaseError):
    """The connection broke before the reply to a change came: it may be done, or not."""
