"""Read a queue's archive page by page, and erase what must not be kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.operations import queues
from pgqrs.payload import Json, encode
from pgqrs.statements import history as sql
from pgqrs.types import ArchivedMessage

__all__ = ["checked_part", "erase", "erase_matching", "page_after"]

_BATCH: Final = 1_000
_BEFORE_ALL: Final = -(2**63)


def page_after(
    connection: Connection, schema: str, queue: str, status: str | None, after: int, limit: int
) -> list[ArchivedMessage]:
    """List archived messages with ids above `after`, by id. Raises QueueNotFoundError."""
    where = {"queue": queues.find(connection, schema, queue).id, "after": after, "n": limit}
    statement = sql.after(schema, by_status=status is not None)
    rows = connection.execute(statement, where if status is None else where | {"status": status})
    return [ArchivedMessage(*row) for row in rows]


def erase(connection: Connection, schema: str, queue: str, ids: Sequence[int]) -> int:
    """Delete archived messages by their ids, in batches; how many. Raises QueueNotFoundError."""
    key, count = queues.find(connection, schema, queue).id, 0
    for start in range(0, len(ids), _BATCH):
        those = {"queue": key, "mids": list(ids[start : start + _BATCH])}
        count += len(connection.execute(sql.erase(schema), those).all())
    return count


def checked_part(part: Any) -> str:
    """Give a part of payloads as JSON text. Raises ValueError where every payload has it."""
    if (part.value if isinstance(part, Json) else part) in ({}, []):
        raise ValueError("an empty filter matches everything: use purge_archive for that")
    return encode(part)


def erase_matching(connection: Connection, schema: str, queue: str, part: str) -> int:
    """Delete archived messages whose payloads contain `part`, in batches that walk the history.

    Gives how many. Raises QueueNotFoundError.
    """
    place = {"queue": queues.find(connection, schema, queue).id, "part": part, "n": _BATCH}
    after: int | None = _BEFORE_ALL
    count = 0
    while after is not None:
        statement = sql.erase_matching(schema)
        deleted, after = connection.execute(statement, {**place, "after": after}).one()
        count += deleted
    return count
