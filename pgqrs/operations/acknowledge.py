"""What the holder of a lease does with it; the fence decides whether it still holds it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Executable

from pgqrs.sending import fetch_all, fetch_one
from pgqrs.statements import acknowledge as sql
from pgqrs.types import ArchivedMessage, ArchiveMode, QueueMessage

__all__ = [
    "Fence",
    "archive",
    "archive_many",
    "delete",
    "delete_many",
    "exist",
    "extend",
    "fence_of",
    "find_archived",
    "release",
]


class Fence(NamedTuple):
    """Which lease: the message, and the count it was leased under."""

    message_id: int
    read_ct: int


# The class itself takes half as long again, and each message of a batch has one.
_fence: Final[Callable[[Iterable[int]], Fence]] = partial(tuple.__new__, Fence)


def fence_of(message: QueueMessage) -> Fence:
    """Give the fence of a leased message."""
    return _fence((message.id, message.read_ct))


def archive(
    connection: Connection,
    schema: str,
    worker_id: int,
    fence: Fence,
    status: str,
    output: str | None,
) -> ArchivedMessage | None:
    """Move one message to the archive; None where the lease is not held."""
    parameters = {**_one(fence, worker_id), "outcome": status, "result": output}
    statement = sql.archive_dead if status == "dead" else sql.archive_one
    row = fetch_one(connection, statement(schema), parameters)
    if row is None:
        return None
    *columns, mode = row
    message = ArchivedMessage(*columns)
    return message if mode != ArchiveMode.META else _without_contents(message)


def archive_many(
    connection: Connection, schema: str, worker_id: int, fences: Sequence[Fence]
) -> set[Fence]:
    """Archive as completed; gives the leases that were held."""
    parameters = {**_many(fences, worker_id), "outcome": "completed"}
    return _held(connection, sql.archive_many(schema), parameters, fences)


def delete(connection: Connection, schema: str, worker_id: int, fence: Fence) -> bool:
    """Delete one message; False where the lease is not held."""
    row = fetch_one(connection, sql.delete_one(schema), _one(fence, worker_id))
    return row is not None


def delete_many(
    connection: Connection, schema: str, worker_id: int, fences: Sequence[Fence]
) -> set[Fence]:
    """Delete; gives the leases that were held."""
    return _held(connection, sql.delete_many(schema), _many(fences, worker_id), fences)


def extend(
    connection: Connection, schema: str, worker_id: int, fence: Fence, by: dt.timedelta
) -> QueueMessage | None:
    """Push an unexpired lease out; None where it is not held or ran out."""
    parameters = {**_one(fence, worker_id), "span": by}
    row = fetch_one(connection, sql.extend(schema), parameters)
    return None if row is None else QueueMessage(*row)


def release(
    connection: Connection,
    schema: str,
    worker_id: int,
    fences: Sequence[Fence],
    delay: dt.timedelta,
) -> set[Fence]:
    """Give leases back, at no attempt's cost; gives those that were held."""
    parameters = {**_many(fences, worker_id), "span": delay, "phase": 1 if delay else 0}
    return _held(connection, sql.release(schema), parameters, fences)


def find_archived(
    connection: Connection,
    schema: str,
    holder: tuple[int, int],
    fences: Sequence[Fence],
    status: str,
) -> dict[Fence, ArchivedMessage]:
    """Give what `holder` (queue id, worker id) archived with `status` under these fences."""
    queue_id, worker_id = holder
    parameters = {**_many(fences, worker_id), "queue": queue_id, "outcome": status}
    rows = fetch_all(connection, sql.find_archived(schema), parameters)
    found = [ArchivedMessage(*row) for row in rows]
    return {Fence(message.id, message.read_ct): message for message in found}


def exist(connection: Connection, schema: str, queue_id: int, fences: Sequence[Fence]) -> set[int]:
    """Give the ids of those messages of a queue that are still somewhere, archive included."""
    parameters = {"queue": queue_id, "mids": [fence.message_id for fence in fences]}
    return set(connection.execute(sql.exist(schema), parameters).scalars())


def _held(
    connection: Connection,
    statement: Executable,
    parameters: dict[str, Any],
    fences: Sequence[Fence],
) -> set[Fence]:
    rows = fetch_all(connection, statement, parameters)
    return set(fences) if len(rows) == len(fences) else set(map(_fence, rows))


def _one(fence: Fence, worker_id: int) -> dict[str, Any]:
    return {"mid": fence.message_id, "rc": fence.read_ct, "worker": worker_id}


def _many(fences: Sequence[Fence], worker_id: int) -> dict[str, Any]:
    return {
        "mids": [fence.message_id for fence in fences],
        "rcs": [fence.read_ct for fence in fences],
        "worker": worker_id,
    }


def _without_contents(message: ArchivedMessage) -> ArchivedMessage:
    return replace(message, payload_json=None, output_json=None)
