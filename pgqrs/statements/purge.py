"""Delete many rows that nobody in particular holds, in batches, without waiting for anyone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
    Interval,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
)

from pgqrs.models import DELAYED, LEASED, READY, Tables
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["ago", "archived", "delayed", "leased", "newest", "ready"]


@per_schema
def newest(t: Tables) -> Executable:
    """Give the highest id there is: a purge ends where the table ended when it began."""
    return select(func.max(t.messages.c.id))


@per_schema
def ready(t: Tables) -> Executable:
    """Delete up to `n` ready messages of `queue` with ids up to `upto`; gives their ids."""
    return _messages(t, READY, [t.messages.c.priority.desc(), t.messages.c.id])


@per_schema
def delayed(t: Tables) -> Executable:
    """Delete up to `n` delayed messages of `queue` with ids up to `upto`; gives their ids."""
    return _messages(t, DELAYED, [t.messages.c.vt])


@per_schema
def leased(t: Tables) -> Executable:
    """Delete up to `n` leased messages of `queue` with ids up to `upto`; gives their ids."""
    return _messages(t, LEASED, [t.messages.c.vt])


@per_schema
def archived(t: Tables) -> Executable:
    """Delete the next `n` messages of `queue` that were archived from `after` to `upto`.

    Gives when they were; `after` is the last of these, or null to begin with.
    """
    a = t.archive
    after = bindparam("after", type_=DateTime(timezone=True))
    chosen = (
        select(a.c.id)
        .where(
            a.c.queue_id == _queue(),
            a.c.archived_at >= func.coalesce(after, _EVER),
            a.c.archived_at <= bindparam("upto", type_=DateTime(timezone=True)),
        )
        .order_by(a.c.archived_at)
        .limit(_n())
        .with_for_update(skip_locked=True)
    )
    gone = delete(a).where(a.c.id == any_(func.array(chosen.scalar_subquery())))
    return gone.returning(a.c.archived_at)


_EVER: ColumnElement[Any] = literal_column("timestamptz '-infinity'", DateTime(timezone=True))


def ago() -> Executable:
    """Give the instant that is `age` ago, by the server's clock."""
    return select(func.statement_timestamp() - bindparam("age", type_=Interval))


def _messages(t: Tables, state: ColumnElement[int], order: list[ColumnElement[Any]]) -> Executable:
    m = t.messages
    chosen = (
        select(m.c.id)
        .where(
            m.c.queue_id == _queue(),
            m.c.state == state,
            unestimated(m.c.id <= bindparam("upto", type_=BigInteger)),
        )
        .order_by(*order)
        .limit(_n())
        .with_for_update(skip_locked=True)
    )
    return delete(m).where(m.c.id == any_(func.array(chosen.scalar_subquery()))).returning(m.c.id)


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _n() -> ColumnElement[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()
