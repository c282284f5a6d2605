"""Delete many rows that nobody in particular holds, in batches, without waiting for anyone."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Interval,
    Table,
    any_,
    bindparam,
    delete,
    func,
    select,
)

from pgqrs.models import DELAYED, LEASED, READY, Tables, tables
from pgqrs.statements.per_schema import per_schema

__all__ = ["archived", "archived_upto", "delayed", "leased", "newest", "ready"]


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


@cache
def archived_upto(schema: str, *, by_queue: bool, by_age: bool) -> Executable:
    """Give the highest archived id of `queue` (by_queue) that is older than `age` (by_age)."""
    a = tables(schema).archive
    return select(func.max(a.c.id)).where(*_concerned(a, by_queue=by_queue, by_age=by_age))


@cache
def archived(schema: str, *, by_queue: bool, by_age: bool) -> Executable:
    """Delete the next `n` of those, with ids above `after` and up to `upto`; gives their ids."""
    a = tables(schema).archive
    chosen = (
        select(a.c.id)
        .where(
            a.c.id > bindparam("after", type_=BigInteger),
            a.c.id <= bindparam("upto", type_=BigInteger),
            *_concerned(a, by_queue=by_queue, by_age=by_age),
        )
        .order_by(a.c.id)
        .limit(_n())
        .with_for_update(skip_locked=True)
    )
    return delete(a).where(a.c.id == any_(func.array(chosen.scalar_subquery()))).returning(a.c.id)


def _concerned(archive: Table, *, by_queue: bool, by_age: bool) -> list[ColumnElement[bool]]:
    # Separate statements, because "parameter is null or column = parameter" can use no index.
    where: list[ColumnElement[bool]] = []
    if by_queue:
        where.append(archive.c.queue_id == bindparam("queue", type_=BigInteger))
    if by_age:
        age = bindparam("age", type_=Interval)
        where.append(archive.c.archived_at < func.statement_timestamp() - age)
    return where


def _messages(t: Tables, state: ColumnElement[int], order: list[ColumnElement[Any]]) -> Executable:
    m = t.messages
    chosen = (
        select(m.c.id)
        .where(
            m.c.queue_id == bindparam("queue", type_=BigInteger),
            m.c.state == state,
            m.c.id <= bindparam("upto", type_=BigInteger),
        )
        .order_by(*order)
        .limit(_n())
        .with_for_update(skip_locked=True)
    )
    return delete(m).where(m.c.id == any_(func.array(chosen.scalar_subquery()))).returning(m.c.id)


def _n() -> ColumnElement[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()
