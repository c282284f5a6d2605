"""See that no id is given out twice."""

from __future__ import annotations

from sqlalchemy import Connection

from pgqrs.errors import DatabaseError
from pgqrs.operations.views import REFUSED
from pgqrs.statements import ids as sql

__all__ = ["behind", "bump"]


def behind(connection: Connection, schema: str) -> dict[str, tuple[int | None, int]]:
    """Give by table (last id given, highest in use) where the next id would be in use already.

    The last id is None where this role may not see it.
    """
    rows = connection.execute(sql.looked_at(schema))
    return {
        name: (last, highest)
        for name, last, highest in rows
        if highest is not None and (last is None or last < highest)
    }


def bump(connection: Connection, schema: str) -> dict[str, int]:
    """Go on with ids past the highest in use; gives that by table, where it was needed.

    Raises DatabaseError where this role may not see the ids given out.
    """
    if hidden := [name for name, (last, _) in behind(connection, schema).items() if last is None]:
        raise DatabaseError(
            f"this role may not see the ids given out for {', '.join(hidden)}: `pgqrs --schema"
            f" {schema} grant admin ROLE` gives it that, or do it as the owner of the tables",
            REFUSED,
        )
    return {row[0]: row[1] for row in connection.execute(sql.bump(schema))}
