"""Delete many rows that nobody in particular holds, in batches, without waiting for anyone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Executable,
    Interval,
    Text,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
)

from pgqrs.models import DELAYED, LEASED, READY, Tables
from pgqrs.statements.options import option
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["ago", "archived", "delayed", "leased", "newest", "ready"]


@per_schema
def newest(t: Tables) -> Executable:
    """Give the highest id there is: a purge ends where the table ended when it began."""
    # Not max(): of a table that was empty when it was last vacuumed that reads the whole index.
    newest = t.messages.c.id
    return select(newest).order_by(newest.desc()).limit(literal_column("1"))


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
    """Walk the next `n` archived messages of `queue` after `after`; delete those up to `upto`.

    Where it `spares`, not those that are kept for a time of their own.
    Ids are given in the order of time: behind a message that was enqueued later than `upto`,
    nothing can have been archived before. Gives (how many were deleted, the last id walked over,
    whether one was enqueued too late); no id: the end.
    """
    a = t.archive
    upto = bindparam("upto", type_=DateTime(timezone=True))
    here = a.c.queue_id == _queue()
    spares = bindparam("spares", type_=Boolean)
    has_time = option(a, "retain_for", Text).is_not(None)
    walked = (
        select(
            a.c.id,
            ((a.c.archived_at <= upto) & ~(spares & has_time)).label("is_old"),
            (a.c.enqueued_at > upto).label("is_late"),
        )
        .where(here, a.c.id > bindparam("after", type_=BigInteger))
        .order_by(a.c.id)
        .limit(_n())
        .cte("walked")
    )
    old = select(walked.c.id).where(walked.c.is_old).scalar_subquery()
    chosen = select(a.c.id).where(here, a.c.id == any_(func.array(old)))
    taken = chosen.with_for_update(skip_locked=True).scalar_subquery()
    gone = delete(a).where(here, a.c.id == any_(func.array(taken))).returning(a.c.id).cte("gone")
    deleted = select(func.count()).select_from(gone).scalar_subquery()
    return select(deleted, func.max(walked.c.id), func.bool_or(walked.c.is_late))


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
