"""Act on messages by the ids that their producers gave them, whoever holds them.

A lease is found first and then ended under its fence, as its holder would: where another consumer
leased the message in between, nothing is done.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from pgqrs.errors import MessageNotFoundError, QueueNotFoundError
from pgqrs.message_info import MessageInfo
from pgqrs.operations import intervene, settle
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.intervene import Act
from pgqrs.operations.settle import Failure, Finish, RetryTerms
from pgqrs.statements import identity as sql

__all__ = ["act", "complete", "delete", "fail", "find", "identity_of"]

_NUMBERS: Final = 2**63


class _Place(NamedTuple):
    """Where a message is: who holds it, or held it last; nobody, in the archive."""

    queue_id: int
    message_id: int
    read_ct: int | None
    worker_id: int | None


def identity_of(message_id: uuid.UUID | None, number: int) -> uuid.UUID:
    """Give the id that a producer gave a message, or its own number as a UUID."""
    return uuid.UUID(int=number) if message_id is None else message_id


def find(connection: Connection, schema: str, queue: str, key: uuid.UUID) -> MessageInfo | None:
    """Look a message up, wherever it is. Raises QueueNotFoundError."""
    for place in _places(connection, schema, queue, [key]):
        try:
            return intervene.find(connection, schema, place.message_id)
        except MessageNotFoundError:  # deleted since
            return None
    return None


def complete(
    connection: Connection, schema: str, queue: str, keys: Iterable[uuid.UUID], output: str | None
) -> set[Fence]:
    """Archive what is leased as completed, each with this output; gives the leases that ended."""
    done: set[Fence] = set()
    for (_, worker_id), fences in _leases(connection, schema, queue, keys):
        finishes = [Finish(fence, output=output) for fence in fences]
        done |= settle.finish_many(connection, schema, worker_id, finishes)
    return done


def fail(
    connection: Connection,
    schema: str,
    queue: str,
    keys: Iterable[uuid.UUID],
    error: str,
    terms: RetryTerms,
) -> set[Fence]:
    """End the present attempts, which failed for this error; gives the leases that ended."""
    done: set[Fence] = set()
    for holder, fences in _leases(connection, schema, queue, keys):
        failures = [Failure(fence, error) for fence in fences]
        done |= settle.fail_many(connection, schema, holder, failures, terms).keys()
    return done


def act(
    connection: Connection, schema: str, queue: str, keys: Iterable[uuid.UUID], act_: Act
) -> set[Fence]:
    """Do with messages what an operator would; gives those it was done with."""
    places = _places(connection, schema, queue, keys)
    done = intervene.do_each(connection, schema, act_, [place.message_id for place in places])
    return {_fence(place) for place, was in zip(places, done, strict=True) if was}


def delete(
    connection: Connection, schema: str, queue: str, keys: Iterable[uuid.UUID]
) -> set[Fence]:
    """Delete messages, leased and archived ones too, and let their ids be given again."""
    named = list(keys)
    places = _places(connection, schema, queue, named)
    if not places:
        return set()
    mids = [place.message_id for place in places]
    was = intervene.do_each(connection, schema, intervene.deleting(force=True), mids)
    gone = {message_id for message_id, done in zip(mids, was, strict=True) if done}
    those = {"queue": places[0].queue_id, "mids": mids, "gone": gone, "keys": list(map(str, named))}
    gone.update(connection.execute(sql.forget(schema), those).scalars())
    return {_fence(place) for place in places if place.message_id in gone}


def _places(
    connection: Connection, schema: str, queue: str, keys: Iterable[uuid.UUID]
) -> list[_Place]:
    """Say where those are that are anywhere, each once. Raises QueueNotFoundError."""
    asked = list(dict.fromkeys(keys))
    if not asked:
        return []
    own = [key.int < _NUMBERS for key in asked]
    parameters: dict[str, Any] = {
        "queue": queue,
        "keys": [None if is_own else str(key) for key, is_own in zip(asked, own, strict=True)],
        "numbers": [key.int if is_own else None for key, is_own in zip(asked, own, strict=True)],
    }
    rows = connection.execute(sql.find(schema), parameters).all()
    if not rows:
        raise QueueNotFoundError(queue)
    found = {row[1]: _Place(*row) for row in rows if row[1] is not None}
    return list(found.values())


def _leases(
    connection: Connection, schema: str, queue: str, keys: Iterable[uuid.UUID]
) -> Iterator[tuple[tuple[int, int], Sequence[Fence]]]:
    """Give the holders (queue id, worker id) with what each leased."""
    leased = [
        ((place.queue_id, place.worker_id), _fence(place))
        for place in _places(connection, schema, queue, keys)
        if place.worker_id is not None
    ]
    for holder, those in groupby(sorted(leased), key=lambda one: one[0]):
        yield holder, [fence for _, fence in those]


def _fence(place: _Place) -> Fence:
    return Fence(place.message_id, place.read_ct or 0)
