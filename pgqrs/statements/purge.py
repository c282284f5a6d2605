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
    literal_column,
    select,
    tuple_,
)

from pgqrs.models import DELAYED, LEASED, READY, Tables, tables
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import by_its_index, unestimated

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
    line = _line(a, by_queue=by_queue)
    mine = [by_its_index(a.c.queue_id, _queue())] if by_queue else []
    last = select(a.c.id).where(*mine, *_aged(a, by_age=by_age))
    return last.order_by(*(column.desc() for column in line)).limit(literal_column("1"))


@cache
def archived(schema: str, *, by_queue: bool, by_age: bool) -> Executable:
    """Delete the next `n` of those, with ids above `after` and up to `upto`; gives their ids."""
    a = tables(schema).archive
    line = _line(a, by_queue=by_queue)
    queue = [_queue()] if by_queue else []
    after, upto = bindparam("after", type_=BigInteger), bindparam("upto", type_=BigInteger)
    chosen = (
        select(a.c.id)
        .where(
            tuple_(*line) > tuple_(*queue, after),
            tuple_(*line) <= tuple_(*queue, upto),
            *_aged(a, by_age=by_age),
        )
        .order_by(*line)
        .limit(_n())
        .with_for_update(skip_locked=True)
    )
    return delete(a).where(a.c.id == any_(func.array(chosen.scalar_subquery()))).returning(a.c.id)


def _line(archive: Table, *, by_queue: bool) -> list[ColumnElement[Any]]:
    """Give the columns of the index to walk along."""
    return [archive.c.queue_id, archive.c.id] if by_queue else [archive.c.id]


def _aged(archive: Table, *, by_age: bool) -> list[ColumnElement[bool]]:
    # A statement without, because "parameter is null or column < parameter" can use no index.
    age = bindparam("age", type_=Interval)
    return [archive.c.archived_at < func.statement_timestamp() - age] if by_age else []


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
