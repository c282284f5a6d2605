"""What the holder of a lease does with it: archive, delete, extend, release.

Each WHERE carries the fence (id, consumer, read count) and nothing about the state: stale
statistics would make a plan with it read the whole index of leases. What does not come back was
not held. A producer's extension has a fence of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    SmallInteger,
    Text,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import DELAYED, LEASED, READY, Tables
from pgqrs.statements import fence
from pgqrs.statements.arrays import numbers
from pgqrs.statements.columns import ARCHIVED, LEAVING, MESSAGE, as_sent
from pgqrs.statements.dead_letter import ADDRESS, copied
from pgqrs.statements.per_schema import per_schema

__all__ = [
    "archive_dead",
    "archive_many",
    "archive_one",
    "archived",
    "delete_many",
    "delete_one",
    "exist",
    "extend",
    "extend_produced",
    "find_archived",
    "kept",
    "release",
    "settled",
    "terms_of",
]


@per_schema
def archive_one(t: Tables) -> Executable:
    """Move the message (mid, rc) of `worker` to the archive with `outcome` and `result`."""
    return _archive_one(t, kept)


@per_schema
def archive_dead(t: Tables) -> Executable:
    """Do the same where the outcome may be `dead`."""
    return _archive_one(t, settled)


@per_schema
def archive_many(t: Tables) -> Executable:
    """Move the messages (mids, rcs) of `worker` to the archive; gives the fences that held."""
    gone = (
        delete(t.messages)
        .where(*fence.of_many(t))
        .returning(*_leaving(t), null().cast(JSONB).label("output"))
        .cte("gone")
    )
    return select(gone.c.id, gone.c.read_ct).add_cte(*kept(t, gone, terms_of(t, gone)))


@per_schema
def delete_one(t: Tables) -> Executable:
    """Delete the message (mid, rc) of `worker`; gives its id."""
    return delete(t.messages).where(*_fence_of_one(t)).returning(t.messages.c.id)


@per_schema
def delete_many(t: Tables) -> Executable:
    """Delete the messages (mids, rcs) of `worker`; gives the fences that held."""
    m = t.messages
    return delete(m).where(*fence.of_many(t)).returning(m.c.id, m.c.read_ct)


@per_schema
def extend(t: Tables) -> Executable:
    """Push vt of the unexpired lease (mid, rc) of `worker` out to now + `span`; never shorten."""
    m = t.messages
    return (
        update(m)
        .where(*_fence_of_one(t), m.c.vt > func.clock_timestamp())
        .values(vt=_pushed_out(t))
        .returning(*as_sent(m, MESSAGE))
    )


@per_schema
def extend_produced(t: Tables) -> Executable:
    """Postpone the waiting message `mid` that `worker` produced, or extend its present lease."""
    m = t.messages
    return (
        update(m)
        .where(
            m.c.id == bindparam("mid", type_=BigInteger),
            m.c.producer_worker_id == bindparam("worker", type_=BigInteger),
            (m.c.state != LEASED) | (m.c.vt > func.clock_timestamp()),
        )
        .values(vt=_pushed_out(t), state=case((m.c.state == READY, DELAYED), else_=m.c.state))
        .returning(*as_sent(m, MESSAGE))
    )


@per_schema
def release(t: Tables) -> Executable:
    """Give the leases (mids, rcs) of `worker` back, due after `span`; no attempt is lost."""
    m = t.messages
    return (
        update(m)
        .where(*fence.of_many(t))
        .values(
            state=bindparam("phase", type_=SmallInteger),
            vt=func.clock_timestamp() + bindparam("span", type_=Interval),
            consumer_worker_id=null(),
            returned_ct=m.c.returned_ct + literal_column("1"),
        )
        .returning(m.c.id, m.c.read_ct)
    )


@per_schema
def find_archived(t: Tables) -> Executable:
    """Look in `queue` for messages (mids, rcs) that `worker` archived with `outcome`.

    That is done after a lost reply.

    One that died meanwhile carries the same fence, but not the same status.
    """
    a, held = t.archive, fence.asked()
    mine = [
        a.c.read_ct == held.c.rc,
        a.c.consumer_worker_id == _worker(),
        a.c.status == bindparam("outcome", type_=Text),
    ]
    found = _one_archived(t, held.c.mid, as_sent(a, ARCHIVED), *mine)
    return select(*found.c).select_from(held.join(found, true()))


@per_schema
def exist(t: Tables) -> Executable:
    """Give which of `mids` are still somewhere, among the messages or archived of `queue`."""
    m = t.messages
    mids = numbers("mids", BigInteger)
    asked = func.unnest(mids).table_valued("mid").render_derived("asked")
    found = _one_archived(t, asked.c.mid, [t.archive.c.id])
    archived = select(found.c.id).select_from(asked.join(found, true()))
    return union_all(select(m.c.id).where(m.c.id == any_(mids)), archived)


def _archive_one(t: Tables, end: Callable[[Tables, CTE, CTE], Sequence[CTE]]) -> Executable:
    gone = (
        delete(t.messages)
        .where(*_fence_of_one(t))
        .returning(*_leaving(t), cast(bindparam("result", type_=Text), JSONB).label("output"))
        .cte("gone")
    )
    terms = terms_of(t, gone)
    return select(*as_sent(gone, ARCHIVED), _mode(terms)).add_cte(*end(t, gone, terms))


def _one_archived(
    t: Tables, mid: ColumnElement[int], columns: list[Any], *where: ColumnElement[bool]
) -> Any:
    # One by one: with old statistics a join reads all of the queue's history.
    a = t.archive
    one = select(*columns).where(a.c.queue_id == _queue(), a.c.id == mid, *where)
    return one.limit(literal_column("1")).lateral("found")


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _worker() -> ColumnElement[int]:
    return bindparam("worker", type_=BigInteger)


def _fence_of_one(t: Tables) -> tuple[ColumnElement[bool], ...]:
    m = t.messages
    return (
        m.c.id == bindparam("mid", type_=BigInteger),
        m.c.read_ct == bindparam("rc", type_=Integer),
        m.c.consumer_worker_id == _worker(),
    )


def _mode(terms: CTE) -> ColumnElement[str]:
    return select(terms.c.archive_mode).scalar_subquery()


def _pushed_out(t: Tables) -> ColumnElement[Any]:
    wanted = func.clock_timestamp() + bindparam("span", type_=Interval)
    return func.greatest(t.messages.c.vt, wanted)


def _leaving(t: Tables) -> list[ColumnElement[Any]]:
    m = t.messages
    return [
        *(m.c[name] for name in (*LEAVING, "error")),
        func.clock_timestamp().label("archived_at"),
        bindparam("outcome", type_=Text).label("status"),
    ]


def terms_of(t: Tables, gone: CTE) -> CTE:
    """Give what the queue says of its messages' end, read once: a lease is of one queue."""
    q = t.queues
    queue_id = select(gone.c.queue_id).limit(literal_column("1")).scalar_subquery()
    columns = [q.c[name] for name in ("archive_mode", *ADDRESS)]
    return select(*columns).where(q.c.id == queue_id).cte("terms_of_queue")


def kept(t: Tables, gone: CTE, terms: CTE) -> tuple[CTE]:
    """Insert what left the queue into the archive, as far as the terms of the queue say."""
    return (archived(t, gone, _mode(terms)),)


def settled(t: Tables, gone: CTE, terms: CTE) -> tuple[CTE, CTE]:
    """Do the same, and enqueue copies of the dead in the dead letter queue.

    What cannot be dead is better `kept`: the step more costs the server a tenth of an archive.
    """
    died = gone.c.status == literal_column("'dead'")
    return archived(t, gone, _mode(terms)), copied(t, gone, terms, "copies", died)


def archived(t: Tables, gone: CTE, mode: ColumnElement[str]) -> CTE:
    """Insert what left the queue into the archive, as far as the archive mode says."""
    full = mode != literal_column("'meta'")
    row: dict[str, ColumnElement[Any]] = {column.name: column for column in gone.c}
    for name in ("payload", "output"):
        row[name] = case((full, gone.c[name]))
    completed = gone.c.status == literal_column("'completed'")
    rows = select(*row.values()).where((mode != literal_column("'none'")) | ~completed)
    return insert(t.archive).from_select(list(row), rows, include_defaults=False).cte("kept")
