"""Register workers, keep them alive and stop them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    Text,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    null,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert

from pgqrs.models import Tables
from pgqrs.statements.columns import WORKER, as_sent
from pgqrs.statements.per_schema import per_schema

__all__ = ["beat", "get", "register", "stop"]


@per_schema
def register(t: Tables) -> Executable:
    """Add a worker for the queue named `queue`; a new id each time.

    Parameters: queue, kind, host, number (port or null), process, stale. A stale worker at the
    same host and port is marked stopped; workers without a port that were stopped longer than
    `stale` ago on this host are removed, so that short scripts leave no trail.
    Gives (queue id, worker id, policy or null); no queue: no row; a null worker id: a live one.
    """
    w = t.workers
    named = t.queues.c.queue_name == bindparam("queue", type_=Text)
    here = select(t.queues.c.id, t.queues.c.policy).where(named).cte("here")
    # Counting what was replaced makes sure that it is out of the unique index before the INSERT.
    before = select(func.count()).select_from(_replaced(t, here)).subquery("before")
    row = {
        "queue_id": here.c.id,
        "role": bindparam("kind", type_=Text),
        "hostname": bindparam("host", type_=Text),
        "port": bindparam("number", type_=Integer),
        "pid": bindparam("process", type_=Integer),
    }
    rows = select(*row.values()).select_from(here.join(before, true()))
    added = (
        insert(w)
        .from_select(list(row), rows, include_defaults=False)
        .on_conflict_do_nothing(**_at_an_address(t))
        .returning(w.c.id)
        .cte("added")
    )
    found = select(here.c.id, added.c.id, here.c.policy).select_from(here.outerjoin(added, true()))
    return found.add_cte(_swept(t, here))


@per_schema
def beat(t: Tables) -> Executable:
    """Say that the workers `mine` are alive; gives the ids that are not stopped."""
    w = t.workers
    return (
        update(w)
        .where(
            w.c.id == any_(bindparam("mine", type_=ARRAY(BigInteger))), w.c.shutdown_at.is_(None)
        )
        .values(heartbeat_at=func.clock_timestamp())
        .returning(w.c.id)
    )


@per_schema
def stop(t: Tables) -> Executable:
    """Mark worker `me` stopped, if it is not already."""
    w = t.workers
    return (
        update(w)
        .where(w.c.id == bindparam("me", type_=BigInteger), w.c.shutdown_at.is_(None))
        .values(status=_STOPPED, shutdown_at=func.clock_timestamp())
        .returning(w.c.id)
    )


@per_schema
def get(t: Tables) -> Executable:
    """Look worker `me` up."""
    w = t.workers
    return select(*as_sent(w, WORKER)).where(w.c.id == bindparam("me", type_=BigInteger))


def _at_an_address(t: Tables) -> dict[str, Any]:
    """Name the only conflict that means a live worker: an id in use is a fault to be seen."""
    w = t.workers
    return {
        "index_elements": [w.c.queue_id, w.c.role, w.c.hostname, w.c.port],
        "index_where": w.c.port.is_not(None) & w.c.shutdown_at.is_(None),
    }


_STOPPED = literal_column("'stopped'", Text)


def _same_place(t: Tables, here: CTE) -> list[ColumnElement[bool]]:
    w = t.workers
    return [
        w.c.queue_id == select(here.c.id).scalar_subquery(),
        w.c.role == bindparam("kind", type_=Text),
        w.c.hostname == bindparam("host", type_=Text),
    ]


def _long_ago(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return column < func.clock_timestamp() - bindparam("stale", type_=Interval)


def _replaced(t: Tables, here: CTE) -> CTE:
    w = t.workers
    return (
        update(w)
        .where(
            *_same_place(t, here),
            w.c.port == bindparam("number", type_=Integer),
            w.c.shutdown_at.is_(None),
            _long_ago(w.c.heartbeat_at),
        )
        .values(status=_STOPPED, shutdown_at=func.clock_timestamp())
        .returning(w.c.id)
        .cte("replaced")
    )


def _swept(t: Tables, here: CTE) -> CTE:
    w = t.workers
    old = select(w.c.id).where(
        *_same_place(t, here),
        bindparam("number", type_=Integer) == null(),
        w.c.port.is_(None),
        _long_ago(w.c.shutdown_at),
    )
    taken = old.with_for_update(skip_locked=True).scalar_subquery()
    return delete(w).where(w.c.id == any_(func.array(taken))).returning(w.c.id).cte("swept")
