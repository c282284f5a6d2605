"""Take due messages: the whole dequeue as one statement.

Three arms (ready, due delayed, expired) each take up to n rows that nobody else is taking, in the
order of their index; the best n of them by priority and id are leased. Expired messages without an
attempt left go to the archive on the way, so that they never pile up at the head of their index.
The worker's status and the queue's pause are read here, so they act at once; they come back with
the rows, or alone where there is nothing to lease.

`LIMIT (SELECT n)`: a plain bound LIMIT makes PostgreSQL plan the statement anew on each call.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    ScalarSelect,
    Text,
    any_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import DELAYED, LEASED, READY, Tables
from pgqrs.statements.columns import MESSAGE, as_sent
from pgqrs.statements.per_schema import per_schema

__all__ = ["BURIED_AT_ONCE", "lease"]

BURIED_AT_ONCE = 100
"""The most exhausted messages one lease moves to the archive."""

_ARCHIVED_AS_THEY_ARE = (
    "id",
    "queue_id",
    "vt",
    "enqueued_at",
    "dequeued_at",
    "producer_worker_id",
    "consumer_worker_id",
    "read_ct",
    "returned_ct",
    "max_attempts",
    "priority",
    "message_type",
    "headers",
)


@per_schema
def lease(t: Tables) -> Executable:
    """Lease up to `n` messages of `queue` for `worker`.

    Parameters: queue, worker, n, timeout (or null), default_timeout, default_attempts.
    A row is (worker status, queue paused, the columns of a message or nulls).
    """
    me = _me(t)
    due = union_all(*(select(arm.c.id, arm.c.priority) for arm in _arms(t, me))).subquery("due")
    best = select(due.c.id).order_by(due.c.priority.desc(), due.c.id).limit(_n())
    m = t.messages
    leased = (
        update(m)
        .where(m.c.id == any_(func.array(best.scalar_subquery())))
        .values(
            state=LEASED,
            vt=func.clock_timestamp() + select(me.c.visibility_timeout).scalar_subquery(),
            read_ct=m.c.read_ct + literal_column("1"),
            dequeued_at=func.clock_timestamp(),
            consumer_worker_id=bindparam("worker", type_=BigInteger),
        )
        .returning(*as_sent(m, MESSAGE))
        .cte("leased")
    )
    rows = select(me.c.status, me.c.paused, *leased.c).select_from(me.outerjoin(leased, true()))
    return rows.add_cte(_buried(t, me))


def _me(t: Tables) -> CTE:
    one = select(literal_column("1")).subquery("one")
    w, q = t.workers, t.queues
    return (
        select(
            w.c.status,
            q.c.paused,
            q.c.archive_mode,
            func.coalesce(
                bindparam("timeout", type_=Interval),
                q.c.visibility_timeout,
                bindparam("default_timeout", type_=Interval),
            ).label("visibility_timeout"),
            func.coalesce(q.c.max_attempts, bindparam("default_attempts", type_=Integer)).label(
                "max_attempts"
            ),
        )
        .select_from(
            one.outerjoin(w, w.c.id == bindparam("worker", type_=BigInteger)).outerjoin(
                q, q.c.id == _queue_id()
            )
        )
        .cte("me")
    )


def _arms(t: Tables, me: CTE) -> list[CTE]:
    m = t.messages
    may = select((me.c.status == literal_column("'ready'")) & ~me.c.paused).scalar_subquery()
    come = m.c.vt <= func.statement_timestamp()

    def arm(name: str, *where: ColumnElement[bool], order: list[ColumnElement[Any]]) -> CTE:
        rows = select(m.c.id, m.c.priority).where(m.c.queue_id == _queue_id(), *where, may)
        return rows.order_by(*order).limit(_n()).with_for_update(skip_locked=True).cte(name)

    return [
        arm("ready", m.c.state == READY, order=[m.c.priority.desc(), m.c.id]),
        arm("delayed", m.c.state == DELAYED, come, order=[m.c.vt]),
        arm("expired", m.c.state == LEASED, come, ~_exhausted(t, me), order=[m.c.vt]),
    ]


def _buried(t: Tables, me: CTE) -> CTE:
    m = t.messages
    spent = (
        select(m.c.id)
        .where(
            m.c.queue_id == _queue_id(),
            m.c.state == LEASED,
            m.c.vt <= func.statement_timestamp(),
            _exhausted(t, me),
        )
        .order_by(m.c.vt)
        .limit(literal_column(str(BURIED_AT_ONCE)))
        .with_for_update(skip_locked=True)
    )
    dead = (
        delete(m)
        .where(m.c.id == any_(func.array(spent.scalar_subquery())))
        .returning(*(m.c[name] for name in (*_ARCHIVED_AS_THEY_ARE, "payload", "error")))
        .cte("dead")
    )
    archived = {
        **{name: dead.c[name] for name in _ARCHIVED_AS_THEY_ARE},
        "payload": case((me.c.archive_mode != literal_column("'meta'"), dead.c.payload)),
        "error": func.coalesce(dead.c.error, _LAST_LEASE_RAN_OUT),
        "archived_at": func.clock_timestamp(),
        "status": literal_column("'dead'", Text),
    }
    rows = select(*archived.values()).select_from(dead.join(me, true()))
    return insert(t.archive).from_select(list(archived), rows, include_defaults=False).cte("buried")


_LAST_LEASE_RAN_OUT = literal_column("'\"the lease of the last attempt ran out\"'::jsonb", JSONB)


def _exhausted(t: Tables, me: CTE) -> ColumnElement[bool]:
    limit = func.coalesce(t.messages.c.max_attempts, select(me.c.max_attempts).scalar_subquery())
    return t.messages.c.read_ct - t.messages.c.returned_ct >= limit


def _queue_id() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _n() -> ScalarSelect[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()
