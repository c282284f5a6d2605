"""Let archived messages wait again, as they were or as new ones: what an operator does.

What was archived without its payload stays where it is, and so does what another of its key would
keep out. Rows that somebody is just changing are
skipped, as in `pgqrs.statements.withdraw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    false,
    func,
    literal_column,
    null,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import insert

from pgqrs.models import READY, Tables, tables
from pgqrs.statements.columns import MESSAGE, as_sent
from pgqrs.statements.dead_letter import noted
from pgqrs.statements.enqueue import drawn
from pgqrs.statements.keyed import slot_of, stands_at
from pgqrs.statements.keys import ADDED, kept
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated
from pgqrs.statements.withdraw import asked_ids, asked_of

__all__ = ["replay", "resume", "retry"]

_AS_IT_WAS = (
    "id",
    "queue_id",
    "enqueued_at",
    "dequeued_at",
    "producer_worker_id",
    "read_ct",
    "priority",
    "payload",
    "message_type",
    "headers",
    "error",
    "options",
    "message_id",
    "key",
)

_COPIED = ("priority", "payload", "message_type", "max_attempts", "options", "key")


@cache
def resume(schema: str, *, waits: bool) -> Executable:
    """Let the cancelled messages `mids` wait again, as if never tried; the read count stays.

    Gives (id, whether it was done, whether it was there to be done) for each.
    """
    t = tables(schema)
    gone = _gone(t, ("cancelled",), waits=waits)
    back = _back(t, gone, returned_ct=gone.c.read_ct, max_attempts=gone.c.max_attempts)
    return asked_of(back.c.id, _there(t, ("cancelled",)))


@cache
def retry(schema: str, *, waits: bool) -> Executable:
    """Let the failed and dead messages `mids` wait for one attempt more than their limit.

    Parameter beside: default_attempts. Otherwise as `resume`.
    """
    t = tables(schema)
    gone = _gone(t, ("failed", "dead"), waits=waits)
    q = t.queues
    of_queue = select(q.c.max_attempts).where(q.c.id == gone.c.queue_id).correlate(gone)
    default = bindparam("default_attempts", type_=Integer)
    limit = func.coalesce(gone.c.max_attempts, of_queue.scalar_subquery(), default)
    # A limit that was lowered since would leave no attempt.
    most = func.greatest(limit, gone.c.read_ct - gone.c.returned_ct) + literal_column("1")
    back = _back(t, gone, returned_ct=gone.c.returned_ct, max_attempts=most)
    return asked_of(back.c.id, _there(t, ("failed", "dead")))


@per_schema
def replay(t: Tables) -> Executable:
    """Enqueue copies of the archived messages `mids`; gives the old id and the new message.

    One that another of its key keeps out is left out.
    """
    a, m = t.archive, t.messages
    now = func.statement_timestamp()
    row: dict[str, ColumnElement[Any]] = {
        "id": drawn(t),
        "queue_id": a.c.queue_id,
        "vt": now,
        "enqueued_at": now,
        "state": READY,
        "headers": noted(a.c.headers, replay_of=a.c.id),
        **{name: a.c[name] for name in _COPIED},
    }
    found = _found(t, a.c.payload.is_not(None), [c.label(n) for n, c in row.items()])
    slot = slot_of(t.queues.c.policy, found.c.key, found.c.id)
    rows = select(*found.c, slot).select_from(_each_place(t).join(found, true()))
    names = [*row, "key_slot"]
    added = insert(m).from_select(names, rows, include_defaults=False).on_conflict_do_nothing()
    new = added.returning(*(m.c[name] for name in {*MESSAGE, *ADDED})).cte("new")
    old = new.c.headers["pgqrs"]["replay_of"].astext.cast(BigInteger)
    return select(old, *as_sent(new, MESSAGE)).add_cte(kept(t, new))


def _gone(t: Tables, statuses: Sequence[str], *, waits: bool) -> CTE:
    a = t.archive
    found = _found(
        t,
        _may(t, statuses),
        [a.c.id, a.c.queue_id, a.c.key, _slot(t).label("slot")],
        lambda one: one.with_for_update(skip_locked=not waits, of=a),
    )
    # Where no other may stand beside it, the first of a key.
    same = [found.c.queue_id, found.c.key, found.c.slot]
    place = func.row_number().over(partition_by=same, order_by=found.c.id)
    placed = select(found.c.id, found.c.slot, place.label("place"))
    those = placed.select_from(_each_place(t).join(found, true())).subquery("placed")
    alone = func.coalesce(those.c.slot == literal_column("0"), false())
    ids = select(those.c.id).where(~alone | (those.c.place == literal_column("1")))
    chosen = a.c.id == any_(func.array(ids.scalar_subquery()))
    gone = delete(a).where(a.c.queue_id == any_(_every_queue(t)), chosen)
    names = (*_AS_IT_WAS, "returned_ct", "max_attempts")
    return gone.returning(*(a.c[name] for name in names)).cte("gone")


def _back(t: Tables, gone: CTE, **changed: ColumnElement[Any]) -> CTE:
    # Held by nobody: the read count is as it was, and a late holder must not fit the fence.
    row: dict[str, ColumnElement[Any]] = {
        **{name: gone.c[name] for name in _AS_IT_WAS},
        **changed,
        "vt": func.clock_timestamp(),
        "state": READY,
        "consumer_worker_id": cast(null(), BigInteger),
    }
    q, m = t.queues, t.messages
    slot = slot_of(q.c.policy, gone.c.key, gone.c.id, leased=gone.c.read_ct > literal_column("0"))
    row["key_slot"] = slot
    rows = select(*row.values()).select_from(gone.join(q, q.c.id == gone.c.queue_id))
    back = insert(m).from_select(list(row), rows, include_defaults=False)
    return back.returning(m.c.id).cte("back")


def _each_place(t: Tables) -> FromClause:
    # The archive's key begins with the queue: look in each.
    return t.queues.join(asked_ids(), true())


def _found(
    t: Tables,
    where: ColumnElement[bool],
    columns: list[Any],
    lock: Callable[[Any], Any] = lambda one: one,
) -> Any:
    # One by one: with old statistics a join reads the whole history.
    a = t.archive
    here = (a.c.queue_id == t.queues.c.id, a.c.id == asked_ids().c.mid, where)
    one = select(*columns).where(*here).limit(literal_column("1"))
    return lock(one).correlate(t.queues, asked_ids()).lateral("found")


def _there(t: Tables, statuses: Sequence[str]) -> ColumnElement[bool]:
    a = t.archive
    one = (a.c.queue_id == any_(_every_queue(t)), a.c.id == asked_ids().c.mid, _may(t, statuses))
    # Not EXISTS, for which PostgreSQL may read the whole table once.
    found = select(a.c.id).where(*one).limit(literal_column("1")).correlate(asked_ids())
    return found.scalar_subquery().is_not(None)


def _may(t: Tables, statuses: Sequence[str]) -> ColumnElement[bool]:
    a = t.archive
    wanted = a.c.status.in_([_text(status) for status in statuses])
    taken = (_slot(t) == literal_column("0")) & stands_at(t, a.c.queue_id, a.c.key, a)
    free = a.c.key.is_(None) | ~taken
    return unestimated(wanted & a.c.payload.is_not(None) & free)


def _slot(t: Tables) -> ColumnElement[Any]:
    a, q = t.archive, t.queues.alias("its_queue")
    policy = select(q.c.policy).where(q.c.id == a.c.queue_id).correlate(a).scalar_subquery()
    return slot_of(policy, a.c.key, a.c.id, leased=a.c.read_ct > literal_column("0"))


def _every_queue(t: Tables) -> ColumnElement[Any]:
    return func.array(select(t.queues.c.id).scalar_subquery())


def _text(word: str) -> ColumnElement[str]:
    return literal_column(f"'{word}'", Text)
