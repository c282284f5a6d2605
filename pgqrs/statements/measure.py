"""Measure queues at a bounded cost: counts stop at a limit, ages come from heads of indexes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Select,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
)

from pgqrs.models import DELAYED, LEASED, READY, Tables
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import counted, in_order
from pgqrs.statements.rates import newest, rates, recent

__all__ = ["every_queue", "one_queue"]


@per_schema
def one_queue(t: Tables) -> Executable:
    """Measure the queue named `queue`, each count up to `cap` (null: exact)."""
    return _measured(t).where(t.queues.c.queue_name == bindparam("queue", type_=Text))


@per_schema
def every_queue(t: Tables) -> Executable:
    """Measure all queues, by name."""
    return _measured(t).order_by(t.queues.c.queue_name)


def _measured(t: Tables) -> Select[Any]:
    latest = newest(t)
    history = recent(t, latest)
    columns = (*_measures(t), *rates(t, latest, history), _unhandled(t).label("unhandled_types"))
    return select(*columns).select_from(t.queues.join(history, true()))


def _measures(t: Tables) -> list[ColumnElement[Any]]:
    q, m = t.queues, t.messages
    now = func.statement_timestamp()
    of_queue, history = m.c.queue_id == q.c.id, t.archive.c.queue_id == q.c.id
    delayed, leased = (of_queue, m.c.state == DELAYED), (of_queue, m.c.state == LEASED)
    waiting = _count(t, [m.c.priority.desc(), m.c.id], of_queue, m.c.state == READY)
    come = _count(t, [m.c.vt], *delayed, m.c.vt <= now)
    expired = _count(t, [m.c.vt], *leased, m.c.vt <= now)
    oldest = func.least(_head(t, first=True), _head(t, first=False), _expired_or_come(t))
    return [
        q.c.id,
        q.c.queue_name,
        q.c.paused,
        func.least(waiting + come + expired, bindparam("cap", type_=BigInteger)).label("pending"),
        _count(t, [m.c.vt], *delayed, m.c.vt > now).label("delayed"),
        _count(t, [m.c.vt], *leased, m.c.vt > now).label("locked"),
        _count(t, [t.archive.c.id], history).label("archived"),
        oldest.label("oldest_pending_at"),
        (now - oldest).label("oldest_pending_age"),
        bindparam("cap", type_=BigInteger).label("limit"),
        _dead(t).label("dead"),
    ]


def _dead(t: Tables) -> ColumnElement[Any]:
    """Count what died, among the newest of what did not complete."""
    a = t.archive
    unfinished = select(a.c.status).where(
        a.c.queue_id == t.queues.c.id, a.c.status != literal_column("'completed'", Text)
    )
    limit = bindparam("cap", type_=BigInteger)
    newest_ones = in_order(unfinished, a.c.id.desc(), limit=limit).correlate(t.queues)
    found = newest_ones.subquery("unfinished")
    died = found.c.status == literal_column("'dead'", Text)
    count = select(func.count()).select_from(found).where(died)
    return count.correlate(t.queues).scalar_subquery()


def _unhandled(t: Tables) -> ColumnElement[Any]:
    """Count by type, as JSON text, what was given back and delayed, among the next to come due."""
    m = t.messages
    delayed: Any = select(m.c.message_type, m.c.returned_ct, m.c.read_ct).where(
        m.c.queue_id == t.queues.c.id, m.c.state == DELAYED
    )
    limit = bindparam("cap", type_=BigInteger)
    next_ones = in_order(delayed, m.c.vt, limit=limit).correlate(t.queues).subquery("next_ones")
    never_begun = next_ones.c.returned_ct == next_ones.c.read_ct
    kinds = (
        select(next_ones.c.message_type, func.count().label("number"))
        .where(next_ones.c.returned_ct > literal_column("0"), never_begun)
        .where(next_ones.c.message_type.is_not(None))
        .group_by(next_ones.c.message_type)
        .subquery("kinds")
    )
    numbers = func.jsonb_object_agg(kinds.c.message_type, kinds.c.number)
    return select(cast(numbers, Text)).select_from(kinds).correlate(t.queues).scalar_subquery()


def _count(t: Tables, order: list[Any], *where: ColumnElement[bool]) -> ColumnElement[int]:
    return counted(order, *where, limit=bindparam("cap", type_=BigInteger), outer=t.queues)


def _head(t: Tables, *, first: bool) -> ColumnElement[Any]:
    """Give when the oldest ready message of the highest or the lowest priority was enqueued."""
    m = t.messages
    of_queue = (m.c.queue_id == t.queues.c.id, m.c.state == READY)
    if first:
        line = select(m.c.enqueued_at).where(*of_queue)
        head = line.order_by(m.c.priority.desc(), m.c.id)
    else:
        other = m.alias("lowest")
        lowest = (
            select(other.c.priority)
            .where(other.c.queue_id == t.queues.c.id, other.c.state == READY)
            .order_by(other.c.priority, other.c.id.desc())
            .limit(literal_column("1"))
            .correlate(t.queues)
            .scalar_subquery()
        )
        # By id alone the primary key could serve the order too, past the rows of all others.
        line = select(m.c.enqueued_at).where(*of_queue, m.c.priority <= lowest)
        head = line.order_by(m.c.priority.desc(), m.c.id)
    return head.limit(literal_column("1")).correlate(t.queues).scalar_subquery()


def _expired_or_come(t: Tables) -> ColumnElement[Any]:
    """Give since when the longest-due delayed message or expired lease has been due."""
    m = t.messages
    heads = [
        select(m.c.vt)
        .where(
            m.c.queue_id == t.queues.c.id, m.c.state == state, m.c.vt <= func.statement_timestamp()
        )
        .order_by(m.c.vt)
        .limit(literal_column("1"))
        .correlate(t.queues)
        .scalar_subquery()
        for state in (DELAYED, LEASED)
    ]
    return func.least(*heads)
