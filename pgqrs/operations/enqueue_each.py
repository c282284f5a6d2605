"""Put messages with options and keys of their own into a queue."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.errors import DuplicateMessageError, PgqrsError, QueueNotFoundError, ThrottledError
from pgqrs.new_message import Item
from pgqrs.operations import queues
from pgqrs.sending import fetch_all
from pgqrs.statements import enqueue_each as sql
from pgqrs.types import QueueMessage, message_of

__all__ = ["Bundle", "enqueue_each", "keys_of", "take_back"]

_WINDOW, _IDENTITY = 1, 2
_WAITED: Final = dt.timedelta(milliseconds=10)
_REFUSED_BY: Final = {"window": _WINDOW, "id": _IDENTITY}


@dataclass(frozen=True, slots=True)
class Bundle:
    """Messages for one queue, and whether to notify.

    Where one is kept out, `skips` goes on. `first` is the place of the first in its batch.
    """

    queue: str
    items: Sequence[Item]
    skips: bool = False
    rings: bool = False
    channel: str = ""
    first: int | None = None

    def parameters(self, worker_id: int | None) -> dict[str, Any]:
        """Give the parameters of the statement."""
        return {
            "queue": self.queue,
            "items": "[" + ",".join(item.json for item in self.items) + "]",
            "worker": worker_id,
            "rings": self.rings,
            "channel": self.channel,
        }


def enqueue_each(
    connection: Connection, schema: str, bundle: Bundle, worker_id: int | None
) -> list[QueueMessage | None]:
    """Insert messages in one statement; gives each, in order, or None where it was kept out.

    Raises QueueNotFoundError, and ValueError for options that do not fit the queue. Unless it
    `skips`: ThrottledError or DuplicateMessageError where one is kept out, and then none is in.
    """
    rows = fetch_all(connection, sql.enqueue_each(schema), bundle.parameters(worker_id))
    if not rows:
        raise QueueNotFoundError(bundle.queue)
    refused = [index for index, row in enumerate(rows) if row[5] is not None]
    _check_faults(connection, schema, bundle, [(index, rows[index][5]) for index in refused])
    out = refused if bundle.skips else range(len(rows))
    freed = _undo(connection, schema, bundle, rows, out) if refused else set()
    if refused and not bundle.skips:
        raise _refusal(bundle, refused[0], rows[refused[0]])
    _renew(connection, schema, bundle, rows)
    found = [_message(item, row, worker_id) for item, row in zip(bundle.items, rows, strict=True)]
    again = _for_nothing(bundle, rows, refused, freed)
    if 0 < len(again) < len(found):
        rest = replace(bundle, items=[bundle.items[index] for index in again])
        late = enqueue_each(connection, schema, rest, worker_id)
        for index, message in zip(again, late, strict=True):
            found[index] = message
    return found


def _renew(connection: Connection, schema: str, bundle: Bundle, rows: Sequence[Any]) -> None:
    """Let windows begin now whose keys were waited for: their time counts from before the wait."""
    windows = [
        (item.options.get("singleton_key", ""), row[1], row[7])
        for item, row in zip(bundle.items, rows, strict=True)
        if row[5] is None and "singleton_for" in item.options
    ]
    if any(ago > _WAITED for _, _, ago in windows):
        keys, owners, _ = zip(*windows, strict=True)
        those = {"queue": rows[0][0], "keys": list(keys), "owners": list(owners)}
        connection.execute(sql.renew(schema), those)


def _for_nothing(
    bundle: Bundle, rows: Sequence[Any], refused: Sequence[int], freed: set[tuple[int, str]]
) -> list[int]:
    """Give the places of messages kept out by one that was itself kept out, for another reason."""
    return [
        index
        for index in refused
        for kind, key in keys_of(bundle.items[index])
        if kind == _REFUSED_BY.get(rows[index][5]) and (kind, key) in freed
    ]


def _check_faults(
    connection: Connection, schema: str, bundle: Bundle, refused: Sequence[tuple[int, str]]
) -> None:
    for index, why in refused:
        options = bundle.items[index].options
        if why == "dead_letter":
            name = options["dead_letter"]
            queues.find(connection, schema, name)
            raise ValueError(
                f"queue {name!r} cannot be the dead letter queue of {bundle.queue!r}: that is"
                " another queue, of standard policy"
            )
        if why == "ordering_key":
            raise ValueError(
                f"queue {bundle.queue!r} has no ordering keys: make one with policy='fifo'"
            )
        if why == "key":
            raise ValueError(
                f"queue {bundle.queue!r} has no policy for a singleton_key: say singleton_for, or"
                " make a queue with a policy such as 'short'"
            )


def _refusal(bundle: Bundle, index: int, row: Any) -> PgqrsError:
    options, why = bundle.items[index].options, row[5]
    at = None if bundle.first is None else bundle.first + index
    if why == "window":
        left = row[6]
        wait = None if left is None else max(left, dt.timedelta())
        return ThrottledError(bundle.queue, options.get("singleton_key"), wait, at)
    named = {"message_id": options["message_id"]} if why == "id" else {"key": row[4]}
    return DuplicateMessageError(bundle.queue, **named, index=at)


def _undo(
    connection: Connection, schema: str, bundle: Bundle, rows: Sequence[Any], out: Sequence[int]
) -> set[tuple[int, str]]:
    """Take back what was done for the messages at the places `out`, which are not to be in.

    Gives the keys that are free again.
    """
    taken = [
        (kind, key, rows[index][1])
        for index in out
        for kind, key in keys_of(bundle.items[index])
        if kind != _REFUSED_BY.get(rows[index][5])
    ]
    mids = [rows[index][1] for index in out if rows[index][2] is not None]
    if taken or mids:
        _withdraw(connection, schema, rows[0][0], taken, mids)
    return {(kind, key) for kind, key, _ in taken}


def take_back(
    connection: Connection,
    schema: str,
    items: Sequence[Item | None],
    messages: Sequence[QueueMessage | None],
) -> None:
    """Take back the first messages of a batch, which are in, with their keys."""
    taken = [
        (kind, key, message.id)
        for item, message in zip(items, messages, strict=False)
        if item is not None and message is not None
        for kind, key in keys_of(item)
    ]
    added = [message for message in messages if message is not None]
    if added:
        _withdraw(connection, schema, added[0].queue_id, taken, [each.id for each in added])


def _withdraw(
    connection: Connection,
    schema: str,
    queue_id: int,
    taken: Sequence[tuple[int, str, int]],
    mids: list[int],
) -> None:
    kinds, keys, owners = zip(*taken, strict=True) if taken else ((), (), ())
    arrays = {"kinds": list(kinds), "keys": list(keys), "owners": list(owners), "mids": mids}
    connection.execute(sql.undo(schema), {"queue": queue_id, **arrays})


def keys_of(item: Item) -> list[tuple[int, str]]:
    """Give the keys that a message needs to get in: kind and text of each."""
    options = item.options
    wanted = {_IDENTITY: options.get("message_id")}
    if "singleton_for" in options:
        wanted[_WINDOW] = options.get("singleton_key", "")
    return [(kind, key) for kind, key in wanted.items() if key is not None]


def _message(item: Item, row: Any, worker_id: int | None) -> QueueMessage | None:
    queue_id, message_id, vt, enqueued_at, key, why, *_ = row
    if why is not None:
        return None
    options = item.options
    head = (message_id, queue_id, item.payload, options.get("priority", 0), 0, vt, enqueued_at)
    theirs = options.get("message_id")
    return message_of(
        *(*head, None, worker_id, None, item.kind, 0, options.get("max_attempts"), item.headers),
        theirs and uuid.UUID(theirs),
        key,
    )
