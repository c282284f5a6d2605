"""Send the statements of every message, past SQLAlchemy where nobody looks.

SQLAlchemy writes these statements, once for each schema. What it then does for each execution (a
transaction that is none, a context, a result with its columns) takes the client about as long as
the driver does, for what is an SQL text, its parameters in order, and plain rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

from psycopg import Error
from sqlalchemy import ClauseElement, Connection, Dialect, Executable

__all__ = ["OURS", "fetch_all", "fetch_one"]

OURS: Final = "pgqrs_ours"
"""The execution option of engines that pgqrs makes for itself: one driver, one way to compile."""

_texts: Final[dict[Executable, _Text]] = {}


class _Text(NamedTuple):
    """A statement as it is sent: its SQL, and how the values of its parameters are found."""

    sql: str
    constants: dict[str, Any]
    writers: dict[str, Callable[[Any], Any]]
    """Parameters that a type of SQLAlchemy's writes."""
    names: tuple[str, ...]
    """Of all parameters, in order."""

    def values(self, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Give the values as the driver takes them."""
        named = {**self.constants, **parameters}
        for name, write in self.writers.items():
            named[name] = write(named[name])
        return [named[name] for name in self.names]


def fetch_all(
    connection: Connection, statement: Executable, parameters: Mapping[str, Any]
) -> Sequence[Any]:
    """Send a statement that is made once for a schema, and give all of its rows.

    On a connection of the host's, where the level of isolation is not autocommit, and where
    somebody listens to the engine or has it echo, SQLAlchemy executes it. Errors of the driver and
    interrupts are always SQLAlchemy's to handle and to raise.
    """
    if not _is_unobserved(connection):
        return connection.execute(statement, parameters).all()
    text = _texts.get(statement) or _text(statement, connection.dialect)
    cursor: Any = None
    try:
        cursor = connection.connection.cursor()
        cursor.execute(text.sql, text.values(parameters))
        rows: Sequence[Any] = cursor.fetchall()
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, (Error, TimeoutError)):
            raise  # a TimeoutError may be an interrupt
        connection._handle_dbapi_exception(error, text.sql, None, cursor, None)  # noqa: SLF001
    return rows


def fetch_one(connection: Connection, statement: Executable, parameters: Mapping[str, Any]) -> Any:
    """Do the same, and give the only row; None where there is none."""
    rows = fetch_all(connection, statement, parameters)
    return rows[0] if rows else None


def _is_unobserved(connection: Connection) -> bool:
    options = connection.get_execution_options()
    if OURS not in options or "isolation_level" in options:  # another one than the engine's
        return False
    # As SQLAlchemy asks before it tells anybody of a statement.
    told = (connection, connection.engine, connection.dialect)
    return not (connection._echo or any(each._has_events for each in told))  # noqa: SLF001


def _text(statement: Executable, dialect: Dialect) -> _Text:
    compiled: Any = cast("ClauseElement", statement).compile(dialect=dialect)
    binds = compiled.bind_names.items()
    writers = {
        name: write
        for bind, name in binds
        if (write := bind.type.dialect_impl(dialect).bind_processor(dialect)) is not None
    }
    constants = {name: bind.effective_value for bind, name in binds if not bind.required}
    names = tuple(compiled.positiontup)
    _texts[statement] = text = _Text(compiled.string, constants, writers, names)
    return text
