"""Turn the driver's errors into pgqrs's, in one place and by SQLSTATE."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Final

from sqlalchemy import exc

from pgqrs.errors import (
    DatabaseError,
    DuplicateMessageError,
    OutcomeUnknownError,
    PayloadError,
    PgqrsError,
    QueryTimeoutError,
    QueueNotFoundError,
    SchemaMissingError,
    SchemaVersionError,
    UnavailableError,
)

__all__ = ["refusal", "translated"]

# Worth another try: connection lost (08), conflicts with others (40001, 40P01, 55P03), too many
# connections (53300), the server stopping or starting (57P01 to 57P03).
_RETRYABLE: Final = frozenset({"40001", "40P01", "53300", "55P03", "57P01", "57P02", "57P03"})
# Data that JSON text may spell and jsonb cannot hold.
_UNSTORABLE: Final = frozenset({"22003", "22P02", "22P05", "54000", "54001"})
# Not "is still referenced", which is said of the other side.
_GONE: Final = re.compile(r"\(queue_id\)=\((\d+)\) is not present")
_STANDING: Final = re.compile(r"\(queue_id, key, key_slot\)=\((\d+), (.*), 0\) already exists")
_NUMBER: Final = re.compile(r"\b(bigint|integer|smallint)\b.* out of range|out of range for type")
_LATER: Final = re.compile(r"\.pgqrs_keys\b")  # which the first revision has not
_LOGIN: Final = ("password", "authentication", "does not exist", "pg_hba.conf", "permission denied")
_LOST_BEFORE: Final = "8s2b"  # SQLAlchemy's, of a connection that is used after an error
_RIGHTS: Final = (
    " (`pgqrs grant` gives a role what its work takes, and `pgqrs doctor` says what lacks)"
)


class translated:  # noqa: N801 - it is used as contextlib's are
    """Raise pgqrs's errors for SQLAlchemy's, and ValueError for values that no driver can send.

    With `changes` a connection that breaks while a statement is under way is
    OutcomeUnknownError: what it was to change may be changed.
    """

    __slots__ = ("_changes", "_schema")

    def __init__(self, schema: str, *, changes: bool = False) -> None:
        self._schema = schema
        self._changes = changes

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: object, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        ours = _for_error(error, self._schema, changes=self._changes)
        if ours is not None:
            raise ours from error


def refusal(error: Exception) -> str | None:
    """Say in a line why server or driver refused the data of a statement; None for other errors.

    SQLAlchemy's own text would show the statement, and on a host's engine the data too.
    """
    if isinstance(error, UnicodeError | PayloadError):
        return str(error)
    if not isinstance(error, exc.DBAPIError):
        return None
    code = getattr(error.orig, "sqlstate", None) or ""
    return _first_line(error) if code in _UNSTORABLE or code.startswith("22") else None


def _for_error(error: BaseException, schema: str, *, changes: bool) -> Exception | None:
    if isinstance(error, exc.DBAPIError):
        return _for_driver_error(error, schema, changes=changes)
    if isinstance(error, exc.PendingRollbackError) and error.code == _LOST_BEFORE:
        return UnavailableError("the connection was lost in this transaction: begin anew")
    if isinstance(error, exc.StatementError):
        return ValueError(f"a value cannot be sent to the server: {error.orig}")
    if isinstance(error, UnicodeEncodeError):
        return ValueError(f"a text cannot be sent to the server: {error.reason}")
    if isinstance(error, exc.TimeoutError):
        return UnavailableError(
            "no connection of the pool became free in time: raise max_connections or"
            " connection_timeout_seconds, or use fewer threads"
        )
    return None


def _for_driver_error(error: exc.DBAPIError, schema: str, *, changes: bool) -> PgqrsError:
    code = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    reason = _first_line(error)
    if refused := _for_refusal(error, code, schema):
        return refused
    lost = error.connection_invalidated or code is None or code.startswith("08")
    if lost or code in _RETRYABLE:
        return _for_trouble(error, reason, code, lost=lost, changes=changes)
    return DatabaseError(f"{reason}{_RIGHTS if code == '42501' else ''}", code)


def _for_refusal(error: exc.DBAPIError, code: str | None, schema: str) -> PgqrsError | None:
    reason = _first_line(error)
    if code == "42703" or (code == "42P01" and _LATER.search(reason)):
        return SchemaVersionError(schema, reason)
    if code in ("42P01", "3F000"):
        return SchemaMissingError(schema)
    if code == "57014":
        return QueryTimeoutError(f"the statement was cancelled: {reason}", code)
    if code in ("23503", "23505") and (clash := _for_clash(str(error.orig))):
        return clash
    return _for_value(reason, code)


def _for_value(reason: str, code: str | None) -> PgqrsError | None:
    if code == "22003" and _NUMBER.search(reason):
        return DatabaseError(f"a number is too large: {reason}", code)
    if code in _UNSTORABLE:
        return PayloadError(f"PostgreSQL cannot store this payload: {reason}")
    return None


def _for_clash(detail: str) -> PgqrsError | None:
    if gone := _GONE.search(detail):
        return QueueNotFoundError(int(gone[1]))  # deleted while the statement waited
    if standing := _STANDING.search(detail):
        return DuplicateMessageError(standing[1], key=standing[2])
    return None


def _for_trouble(
    error: exc.DBAPIError, reason: str, code: str | None, *, lost: bool, changes: bool
) -> PgqrsError:
    # A commit has no statement either, but it breaks a connection that was there.
    connecting = error.statement is None and code is None and not error.connection_invalidated
    if connecting and any(word in reason.rpartition(": ")[2] for word in _LOGIN):
        return DatabaseError(f"the server refused the login: {reason}", code)
    if lost and not isinstance(error, exc.OperationalError | exc.InterfaceError):
        return DatabaseError(reason, code)
    if changes and not connecting and (lost or code in ("57P01", "57P02")):
        return OutcomeUnknownError(
            "the connection broke before the reply came, so the change may be made or not:"
            f" look before doing it again ({reason})",
            code,
        )
    what = "the server cannot be reached" if connecting else "the server is not available"
    return UnavailableError(f"{what}: {reason}", code)


def _first_line(error: exc.DBAPIError) -> str:
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0] if lines else type(error.orig).__name__
