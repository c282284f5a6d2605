"""Make and drop the views of queues, which are there only where they were asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from pgqrs.errors import DatabaseError
from pgqrs.statements import queues as queue_sql
from pgqrs.statements import views as sql
from pgqrs.statements.schema_turn import schema_turn
from pgqrs.types import QueueInfo

__all__ = ["REFUSED", "check_droppable", "checked_for_views", "drop", "everyone", "make"]

_LONGEST: Final = 61
REFUSED: Final = "42501"
"""The SQLSTATE of what a role may not do."""


def checked_for_views(name: str) -> str:
    """Give a queue's name back. Raises ValueError where its views would have too long names."""
    if len(name) > _LONGEST:
        raise ValueError(
            f"a queue with views has a name of at most {_LONGEST} characters, because theirs are"
            f" two longer and PostgreSQL keeps 63: {name!r}"
        )
    return name


def make(connection: Connection, schema: str, queue: QueueInfo) -> None:
    """Make those views of a queue that are not there; to run in a transaction.

    Raises DatabaseError where a table has such a name, or this role may not make views here.
    """
    connection.execute(schema_turn(schema))
    wanted = sql.create(schema, queue.queue_name, queue.id)
    wanted[sql.QUEUES] = sql.create_queues(schema)
    there = set(_present(connection, schema, wanted))
    for name, statement in wanted.items():
        if name not in there:
            connection.execute(statement)


def drop(connection: Connection, schema: str, queue: str) -> None:
    """Drop the views of a queue, if it has any; to run in a transaction.

    With the last of them goes that of all queues.
    """
    if not _present(connection, schema, sql.names_of(queue)):
        return
    connection.execute(schema_turn(schema))
    for name in _going_with(connection, schema, queue):
        connection.execute(sql.drop(schema, name))


def check_droppable(connection: Connection, schema: str, queue: str) -> None:
    """Raise DatabaseError where views would go with a queue that are not for this role to drop."""
    names = _going_with(connection, schema, queue)
    held = connection.execute(sql.held(), {"schema": schema, "names": names}).all()
    if held:
        owners = ", ".join(dict.fromkeys(repr(row[1]) for row in held))
        raise DatabaseError(
            f"queue {queue!r} cannot be deleted by this role, because role {owners} owns its views"
            f" ({', '.join(row[0] for row in held)}): let that role do it, or the owner of the"
            " schema, or hand them over with ALTER VIEW ... OWNER TO",
            REFUSED,
        )


def everyone(connection: Connection, schema: str) -> list[str]:
    """Give the names of all views of queues, and of that of all queues."""
    queues = [row.queue_name for row in connection.execute(queue_sql.everyone(schema))]
    names = [name for queue in queues for name in sql.names_of(queue)]
    found = _present(connection, schema, names)
    return [*found, *_present(connection, schema, [sql.QUEUES])] if found else []


def _going_with(connection: Connection, schema: str, queue: str) -> list[str]:
    there = _present(connection, schema, sql.names_of(queue))
    if not there:
        return []
    others = set(everyone(connection, schema)) - {*there, sql.QUEUES}
    return there if others else [*there, *_present(connection, schema, [sql.QUEUES])]


def _present(connection: Connection, schema: str, names: Iterable[str]) -> list[str]:
    those = {"schema": schema, "names": list(names)}
    return list(connection.execute(sql.present(), those).scalars())
