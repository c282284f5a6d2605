"""Lease due messages."""

from __future__ import annotations

import datetime as dt
import random
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from pgqrs.floor import Bounds
from pgqrs.policy import QueuePolicy
from pgqrs.sending import fetch_all
from pgqrs.statements import lease as sql
from pgqrs.statements import maintain
from pgqrs.statements.columns import MESSAGE
from pgqrs.statements.keyed import LEASED_OTHERWISE
from pgqrs.types import QueueMessage, WorkerStatus, message_of

__all__ = [
    "BURIED_AT_ONCE",
    "Burial",
    "Lease",
    "Terms",
    "bury",
    "found",
    "in_order",
    "is_plain",
    "lease",
    "lease_first",
    "lease_in_turn",
]

BURIED_AT_ONCE: Final = 100
"""The most exhausted messages that one lease has moved to the archive, so that it is soon over."""

# Seconds, at most. Who has the turn for longer is a transaction of an application's.
_PAUSES: Final = (0.0, 0.001, 0.002, *[0.004] * 17)
_STATUSES: Final = {status.value: status for status in WorkerStatus}
_ID: Final = attrgetter("id")
_PRIORITY: Final = attrgetter("priority")
_FIRST: Final = 4  # where a row's message begins
_MORE: Final = _FIRST + len(MESSAGE)  # where what other statements add to the rows begins


class Terms(NamedTuple):
    """How to lease: how many, for how long, and the defaults where the queue has none."""

    size: int
    timeout: dt.timedelta | None
    default_timeout: dt.timedelta
    default_attempts: int
    bounds: Bounds | None = None
    """Where to look; None for everywhere."""

    def parameters(self, queue_id: int, worker_id: int) -> dict[str, Any]:
        """Give the parameters of the statement that leases."""
        bounds = {} if self.bounds is None else self.bounds._asdict()
        return {
            **bounds,
            "queue": queue_id,
            "worker": worker_id,
            "n": self.size,
            "timeout": self.timeout,
            "default_timeout": self.default_timeout,
            "default_attempts": self.default_attempts,
        }


class Burial(NamedTuple):
    """Where messages without an attempt left are: their last leases ran out between these."""

    upto: dt.datetime
    since: dt.datetime | None


class Lease(NamedTuple):
    """What a lease gave, and what it read of worker and queue: None where there is no such row.

    `next_due` is read only where nothing was leased: in how long something is due by itself.
    `looked_for` is how long the server looked for what was. `bury_upto`: messages without an
    attempt left are in the way, among those that ran out up to then.
    """

    messages: list[QueueMessage]
    worker_status: WorkerStatus | None
    queue_paused: bool | None
    next_due: dt.timedelta | None = None
    looked_for: dt.timedelta | None = None
    bury_upto: dt.datetime | None = None

    @property
    def due_in(self) -> dt.timedelta | None:
        """In how long another lease may find something that is not there now, if that is known."""
        open_ = self.worker_status is WorkerStatus.READY and not self.queue_paused
        return self.next_due if open_ else None


def lease(
    connection: Connection, schema: str, queue_id: int, worker_id: int, terms: Terms
) -> Lease:
    """Lease up to `terms.size` due messages, the highest priority first, then the oldest."""
    statement = sql.lease(schema) if terms.bounds is None else sql.lease_above(schema)
    return found(fetch_all(connection, statement, terms.parameters(queue_id, worker_id)))


def bury(
    connection: Connection, schema: str, queue_id: int, default_attempts: int, burial: Burial
) -> int:
    """Move messages without an attempt left to the archive; gives how many."""
    terms = {"queue": queue_id, "n": BURIED_AT_ONCE, "default_attempts": default_attempts}
    return len(fetch_all(connection, maintain.bury(schema), terms | burial._asdict()))


def is_plain(policy: QueuePolicy) -> bool:
    """Say whether messages of a queue of this policy are leased whatever else there is."""
    return policy not in LEASED_OTHERWISE


def lease_first(
    connection: Connection, schema: str, holder: tuple[int, int], terms: Terms
) -> Lease:
    """Do what `lease` does for `holder` (queue id, worker id) in a queue of policy short."""
    return found(fetch_all(connection, sql.lease_first(schema), terms.parameters(*holder)))


def lease_in_turn(
    connection: Connection,
    schema: str,
    holder: tuple[int, int],
    terms: Terms,
    policy: QueuePolicy,
    *,
    wide: bool,
) -> tuple[Lease, bool]:
    """Do what `lease` does for `holder` where leases depend on each other.

    Gives the lease, and whether there may be more than was looked at, unless it is `wide`.
    """
    parameters = terms.parameters(*holder)
    statement = sql.lease_in_turn(schema, policy, wide=wide)
    rows = fetch_all(connection, statement, parameters)
    for pause in _PAUSES:
        if not rows[0][-2]:
            break
        time.sleep(pause * random.random())  # noqa: S311 - somebody else leases just now
        rows = fetch_all(connection, statement, parameters)
    return found(rows), bool(rows[0][-1])


def found(rows: Sequence[Any]) -> Lease:
    """Make a lease of the rows that its statement gave."""
    status, paused, spent, time, first = rows[0][: _FIRST + 1]
    if first is None:
        return Lease([], _STATUSES.get(status), paused, next_due=time, bury_upto=spent)
    messages = in_order([message_of(*row[_FIRST:_MORE]) for row in rows])
    return Lease(messages, _STATUSES[status], paused, looked_for=time, bury_upto=spent)


def in_order(messages: Iterable[QueueMessage]) -> list[QueueMessage]:
    """Sort messages as they are leased: the highest priority first, then the oldest."""
    oldest_first = sorted(messages, key=_ID)
    oldest_first.sort(key=_PRIORITY, reverse=True)  # which leaves those of one priority in order
    return oldest_first
