"""Look after the workers of a queue: list and count them, and clear up after those that died.

A statement that touches rows of others skips what somebody is just changing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    Interval,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    update,
)

from pgqrs.models import LEASED, Tables, tables
from pgqrs.statements.columns import WORKER, as_sent
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import counted, in_order, unestimated

__all__ = ["everyone", "expire_leases", "health", "purge", "reclaim", "remove", "stats"]

_STOPPED = literal_column("'stopped'", Text)


@cache
def everyone(schema: str, *, by_queue: bool) -> Executable:
    """List the workers, of the queue named `queue` or all, by id."""
    t = tables(schema)
    rows = select(*as_sent(t.workers, WORKER)).order_by(t.workers.c.id)
    return rows.where(_of_queue(t)) if by_queue else rows


@cache
def health(schema: str, *, by_queue: bool) -> Executable:
    """Give each worker that is not stopped with (age of heartbeat, within `age`, held)."""
    t = tables(schema)
    w, holders = t.workers, _holders(t)
    age = func.clock_timestamp() - w.c.heartbeat_at
    held = func.coalesce(holders.c.held, literal_column("0"))
    rows = (
        select(*as_sent(w, WORKER), age, age <= _age(), held)
        .select_from(w.outerjoin(holders, holders.c.id == w.c.id))
        .where(w.c.shutdown_at.is_(None))
        .order_by(w.c.id)
    )
    return rows.where(_of_queue(t)) if by_queue else rows


@cache
def stats(schema: str, *, by_queue: bool) -> Executable:
    """Count the workers of the queue named `queue` or of each queue, by name."""
    t = tables(schema)
    q, w, m = t.queues, t.workers, t.messages

    def number(*where: ColumnElement[bool]) -> ColumnElement[int]:
        return func.count(w.c.id).filter(*where) if where else func.count(w.c.id)

    held = counted([m.c.vt], m.c.queue_id == q.c.id, m.c.state == LEASED, outer=q)
    stale = and_(w.c.shutdown_at.is_(None), w.c.heartbeat_at < func.clock_timestamp() - _age())
    rows = (
        select(
            q.c.queue_name,
            number(),
            *(number(w.c.status == status) for status in ("ready", "suspended", "stopped")),
            number(stale),
            held,
            func.max(w.c.heartbeat_at),
            func.min(w.c.started_at).filter(w.c.shutdown_at.is_(None)),
        )
        .select_from(q.outerjoin(w, w.c.queue_id == q.c.id))
        .group_by(q.c.id)
        .order_by(q.c.queue_name)
    )
    return rows.where(q.c.queue_name == bindparam("queue", type_=Text)) if by_queue else rows


@cache
def reclaim(schema: str, *, by_queue: bool) -> Executable:
    """Stop the workers whose last heartbeat is older than `age`, and end their leases now.

    Ended leases are due: the next lease of any consumer takes them, or buries what is exhausted.
    Gives the ids of the messages.
    """
    t = tables(schema)
    w, m = t.workers, t.messages
    where = [w.c.shutdown_at.is_(None), w.c.heartbeat_at < func.clock_timestamp() - _age()]
    if by_queue:
        where.append(_of_queue(t))
    dead = select(w.c.id).where(*where).with_for_update(skip_locked=True).scalar_subquery()
    stopped = (
        update(w)
        .where(w.c.id == any_(func.array(dead)))
        .values(status=_STOPPED, shutdown_at=func.clock_timestamp())
        .returning(w.c.id)
        .cte("stopped")
    )
    # All leases are looked at once, and none where nobody was stopped.
    theirs = m.c.consumer_worker_id == any_(func.array(select(stopped.c.id).scalar_subquery()))
    some = select(func.count() > 0).select_from(stopped).scalar_subquery()
    return _end(t, some, unestimated(theirs), order=[m.c.queue_id, m.c.vt])


@per_schema
def expire_leases(t: Tables) -> Executable:
    """End the leases of worker `me` now; gives the ids of the messages."""
    m, w = t.messages, t.workers
    me = bindparam("me", type_=BigInteger)
    queue_id = select(w.c.queue_id).where(w.c.id == me).scalar_subquery()
    mine = unestimated(m.c.consumer_worker_id == me)
    return _end(t, m.c.queue_id == queue_id, mine, order=[m.c.vt])


@per_schema
def purge(t: Tables) -> Executable:
    """Delete workers that hold nothing and gave no sign of life for `age`; gives their ids."""
    w = t.workers
    holders = _holders(t)
    last_sign = func.coalesce(w.c.shutdown_at, w.c.heartbeat_at)
    holds = w.c.id == any_(func.array(select(holders.c.id).scalar_subquery()))
    old = select(w.c.id).where(last_sign < func.clock_timestamp() - _age(), ~holds)
    taken = old.with_for_update(skip_locked=True, of=w).scalar_subquery()
    return delete(w).where(w.c.id == any_(func.array(taken))).returning(w.c.id)


@per_schema
def remove(t: Tables) -> Executable:
    """Delete worker `me` if it is stopped and holds nothing.

    Gives (its status, what it holds, its id if it was deleted); no row: no such worker.
    """
    w = t.workers
    is_me = w.c.id == bindparam("me", type_=BigInteger)
    held = _held(t)
    gone = delete(w).where(is_me, w.c.shutdown_at.is_not(None), held == 0).returning(w.c.id).cte()
    rows = w.outerjoin(gone, gone.c.id == w.c.id)
    return select(w.c.status, held, gone.c.id).select_from(rows).where(is_me)


def _age() -> ColumnElement[Any]:
    return bindparam("age", type_=Interval)


def _of_queue(t: Tables) -> ColumnElement[bool]:
    named = t.queues.c.queue_name == bindparam("queue", type_=Text)
    return t.workers.c.queue_id == select(t.queues.c.id).where(named).scalar_subquery()


def _holders(t: Tables) -> CTE:
    """Give who holds how many, in one pass over the leases."""
    m = t.messages
    leases = in_order(
        select(m.c.consumer_worker_id).where(m.c.state == LEASED), m.c.queue_id, m.c.vt
    ).subquery("leases")
    holder = leases.c.consumer_worker_id
    counts = select(holder.label("id"), func.count().label("held")).group_by(holder)
    return counts.cte("holders").prefix_with("MATERIALIZED")


def _held(t: Tables) -> ColumnElement[int]:
    w, m = t.workers, t.messages
    mine = unestimated(m.c.consumer_worker_id == w.c.id)
    return counted([m.c.vt], m.c.queue_id == w.c.queue_id, m.c.state == LEASED, mine, outer=w)


def _end(t: Tables, *where: ColumnElement[bool], order: list[Any]) -> Executable:
    m = t.messages
    now = func.clock_timestamp()
    leases = select(m.c.id).where(*where, m.c.state == LEASED, unestimated(m.c.vt > now))
    chosen = in_order(leases, *order)
    taken = chosen.with_for_update(skip_locked=True, of=m).scalar_subquery()
    return update(m).where(m.c.id == any_(func.array(taken))).values(vt=now).returning(m.c.id)
