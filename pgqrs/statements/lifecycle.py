"""The life of one worker: suspend, resume and stop it, and give back what it holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from pgqrs.models import LEASED, READY, Tables
from pgqrs.statements.columns import WORKER, as_sent
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import in_order, unestimated

__all__ = ["give_back_all", "is_healthy", "register_admin", "set_status", "shut_down"]


@per_schema
def register_admin(t: Tables) -> Executable:
    """Add a worker of no queue (host, process); gives its id."""
    w = t.workers
    row = {
        "role": literal_column("'admin'", Text),
        "hostname": bindparam("host", type_=Text),
        "pid": bindparam("process", type_=Integer),
    }
    return insert(w).values(row).returning(w.c.id)


@per_schema
def is_healthy(t: Tables) -> Executable:
    """Say whether worker `me` is not stopped and beat within `age`; no row: no such worker."""
    w = t.workers
    beat_lately = w.c.heartbeat_at >= func.clock_timestamp() - bindparam("age", type_=Interval)
    return select(w.c.shutdown_at.is_(None) & beat_lately).where(_is_me(w.c.id))


@per_schema
def set_status(t: Tables) -> Executable:
    """Set the status of worker `me` to `wanted`, if it is one of `allowed`; gives the worker."""
    w = t.workers
    return (
        update(w)
        .where(_is_me(w.c.id), w.c.status == any_(bindparam("allowed", type_=ARRAY(Text))))
        .values(status=bindparam("wanted", type_=Text))
        .returning(*as_sent(w, WORKER))
    )


@per_schema
def shut_down(t: Tables) -> Executable:
    """Stop worker `me` if it is suspended and holds nothing.

    Gives (status before, messages held, whether it was stopped now); no row: no such worker.
    """
    w = t.workers
    me = select(w.c.id, w.c.queue_id, w.c.status).where(_is_me(w.c.id)).with_for_update().cte("me")
    held = select(func.count()).select_from(_held(t, me).subquery()).scalar_subquery()
    stopped = (
        update(w)
        .where(w.c.id == me.c.id, me.c.status == literal_column("'suspended'"), held == 0)
        .values(status=literal_column("'stopped'", Text), shutdown_at=func.clock_timestamp())
        .returning(w.c.id)
        .cte("stopped")
    )
    rows = me.outerjoin(stopped, true())
    return select(me.c.status, held, stopped.c.id.is_not(None)).select_from(rows)


@per_schema
def give_back_all(t: Tables) -> Executable:
    """Give back all that worker `me` holds, at no attempt's cost; gives the ids.

    It may hold them no longer by the time of the update: rows that somebody is just changing are
    left alone.
    """
    m, w = t.messages, t.workers
    me = select(w.c.id, w.c.queue_id).where(_is_me(w.c.id)).cte("me")
    taken = _held(t, me).with_for_update(skip_locked=True, of=m).scalar_subquery()
    return (
        update(m)
        .where(m.c.id == any_(func.array(taken)))
        .values(
            state=READY,
            vt=func.clock_timestamp(),
            consumer_worker_id=null(),
            returned_ct=m.c.returned_ct + literal_column("1"),
        )
        .returning(m.c.id)
    )


def _is_me(column: ColumnElement[int]) -> ColumnElement[bool]:
    return column == bindparam("me", type_=BigInteger)


def _held(t: Tables, me: CTE) -> Select[Any]:
    m = t.messages
    held = select(m.c.id).where(
        m.c.queue_id == select(me.c.queue_id).scalar_subquery(),
        m.c.state == LEASED,
        unestimated(_is_me(m.c.consumer_worker_id)),
    )
    return in_order(held, m.c.vt)
