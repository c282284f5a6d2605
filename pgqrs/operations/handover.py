"""Act on messages that another process leased, by what it told of its leases.

A lease that is named in full is fenced exactly. An id alone is enough where nobody holds the
message, or where its holder has stopped, as a command that only reads has: then the lease is the
one that is found, and fences too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection

from pgqrs.errors import PgqrsError
from pgqrs.operations import acknowledge, intervene, queues
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.intervene import Act
from pgqrs.statements.holders import holders

__all__ = ["Deed", "Lease", "act", "archiving", "deleting", "extending", "releasing"]


class Lease(NamedTuple):
    """A lease as one process can tell another: `ID:WORKER:READ_COUNT`, or an id alone."""

    message_id: int
    worker_id: int | None = None
    read_ct: int | None = None

    @classmethod
    def parse(cls, text: str) -> Lease:
        """Read what `str` wrote. Raises ValueError."""
        parts = text.strip().split(":")
        if len(parts) not in (1, 3) or not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError(f"a message is named by its id or as ID:WORKER:READ_COUNT: {text!r}")
        return cls(*map(int, parts))

    def __str__(self) -> str:
        return ":".join(str(part) for part in self if part is not None)


class _Holder(NamedTuple):
    message_id: int
    is_leased: bool
    worker_id: int | None
    read_ct: int
    is_there: bool

    @property
    def lease(self) -> Lease:
        return Lease(self.message_id, self.worker_id, self.read_ct)


FencedAct = Callable[[Connection, str, int, Sequence[Fence]], set[Fence]]


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing to do: to leases, and to what nobody holds, or None where that makes no sense."""

    to_leases: FencedAct
    to_others: Act | None
    then: str


def archiving(*, force: bool) -> Deed:
    """Finish as completed."""
    to_others = intervene.archiving("completed", force=force)
    return Deed(acknowledge.archive_many, to_others, "archived")


def deleting(*, force: bool) -> Deed:
    """Finish without a trace."""
    return Deed(acknowledge.delete_many, intervene.deleting(force=force), "deleted")


def releasing(*, force: bool) -> Deed:
    """Make due now, at no attempt's cost."""
    give_back = partial(acknowledge.release, delay=dt.timedelta())
    return Deed(give_back, intervene.releasing(force=force), "released")


def extending(by: dt.timedelta) -> Deed:
    """Push the ends of leases out."""

    def extend(
        connection: Connection, schema: str, worker_id: int, fences: Sequence[Fence]
    ) -> set[Fence]:
        once = partial(acknowledge.extend, connection, schema, worker_id)
        return {fence for fence in fences if once(fence, by) is not None}

    return Deed(extend, None, "extended")


def act(
    connection: Connection, schema: str, queue: str, named: Sequence[Lease], deed: Deed
) -> list[str | None]:
    """Do it to each; gives for each, in order, None or the sentence why not.

    Raises QueueNotFoundError.
    """
    key = queues.find(connection, schema, queue).id
    ids = [lease.message_id for lease in named]
    rows: Any = connection.execute(holders(schema), {"queue": key, "mids": ids})
    found = {row[0]: _Holder(*row) for row in rows}
    leases = {lease: _lease_of(lease, found.get(lease.message_id)) for lease in named}
    done = _act_on_leases(connection, schema, leases, deed)
    loose = [one for one in named if leases[one] is None and one.message_id in found]
    if deed.to_others is not None and loose:
        those = [lease.message_id for lease in loose]
        did = intervene.do_each(connection, schema, deed.to_others, those)
        done |= {lease for lease, was_done in zip(loose, did, strict=True) if was_done}
    why = partial(_why_not, connection, schema, queue, deed)
    return [None if one in done else why(one, found.get(one.message_id)) for one in named]


def _lease_of(named: Lease, holder: _Holder | None) -> Lease | None:
    """Give the lease to act on; None where there is none or its holder would be bereft."""
    if holder is None or named.worker_id is not None:
        return named if holder is not None else None
    return holder.lease if holder.is_leased and not holder.is_there else None


def _act_on_leases(
    connection: Connection, schema: str, leases: dict[Lease, Lease | None], deed: Deed
) -> set[Lease]:
    held: set[tuple[int, Fence]] = set()
    by_worker: dict[int, list[Fence]] = {}
    for lease in leases.values():
        if lease is not None:
            fence = Fence(lease.message_id, lease.read_ct or 0)
            by_worker.setdefault(lease.worker_id or 0, []).append(fence)
    for worker_id, fences in by_worker.items():
        unique = list(dict.fromkeys(fences))
        held |= {(worker_id, f) for f in deed.to_leases(connection, schema, worker_id, unique)}
    return {one for one, lease in leases.items() if lease is not None and _is_in(lease, held)}


def _is_in(lease: Lease, held: Iterable[tuple[int, Fence]]) -> bool:
    return (lease.worker_id or 0, Fence(lease.message_id, lease.read_ct or 0)) in held


def _why_not(
    connection: Connection,
    schema: str,
    queue: str,
    deed: Deed,
    named: Lease,
    holder: _Holder | None,
) -> str:
    try:
        now = intervene.find(connection, schema, named.message_id)
    except PgqrsError as error:
        return str(error)
    what = f"message {named.message_id}"
    if now.queue_name != queue:
        return f"{what} is in queue {now.queue_name!r}, not in {queue!r}"
    if now.archived_at is not None:
        return f"{what} is {now.state} already, and cannot be {deed.then}"
    if named.worker_id is not None:
        return f"{what} is not held under the lease {named} any more"
    if holder is not None and holder.is_leased:
        return f"{what} is leased: name its lease, as {holder.lease}, to say that it is yours"
    return f"{what} is held by nobody, and cannot be {deed.then}"
