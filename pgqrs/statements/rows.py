"""Plain reads and writes of one table, for the repositories; see `pgqrs.tables` for the plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import DELAYED, LEASED, READY
from pgqrs.statements.columns import as_sent
from pgqrs.statements.planning import counted, unestimated

__all__ = [
    "add",
    "change",
    "count",
    "count_of",
    "cut",
    "get",
    "held_count",
    "held_page",
    "message_count",
    "message_page",
    "page",
    "page_of",
    "remove",
]


def get(table: Table, names: tuple[str, ...]) -> Any:
    """Look the row `row_id` up by its id."""
    return select(*as_sent(table, names)).where(*_the_row(table))


def page(table: Table, names: tuple[str, ...], *where: ColumnElement[bool]) -> Any:
    """Give `size` rows from `start` on, in the order of the primary key."""
    rows = select(*as_sent(table, names)).where(*where).order_by(*table.primary_key.columns)
    return cut(rows)


def page_of(table: Table, names: tuple[str, ...], of_parent: ColumnElement[bool]) -> Any:
    """Give `size` rows of one parent from `start` on, by id."""
    return cut(select(*as_sent(table, names)).where(of_parent).order_by(table.c.id))


def message_page(
    messages: Table, columns: list[ColumnElement[Any]], *where: ColumnElement[bool]
) -> Any:
    """Give `size` messages of one queue from `start` on: ready, then delayed, then leased.

    Each part comes from the head of its own index, and no further than needed.
    """
    m = messages
    parts: list[tuple[ColumnElement[int], list[ColumnElement[Any]]]] = [
        (READY, [m.c.priority.desc(), m.c.id]),
        (DELAYED, [m.c.vt]),
        (LEASED, [m.c.vt]),
    ]
    needed = select(_number("size") + _number("start")).scalar_subquery()
    arms = [
        select(*columns).where(*where, m.c.state == state).order_by(*order).limit(needed).subquery()
        for state, order in parts
    ]
    return cut(union_all(*(select(arm) for arm in arms)))


def count(table: Table, *where: ColumnElement[bool]) -> Any:
    """Count the rows, exactly."""
    return select(func.count()).select_from(table).where(*where)


def count_of(table: Table, of_parent: ColumnElement[bool]) -> Any:
    """Count the rows of one parent, exactly, through the index that begins with it."""
    return select(counted([table.c.id], of_parent))


def message_count(messages: Table, *where: ColumnElement[bool]) -> Any:
    """Count the messages of one queue through the three indexes of the states."""
    m = messages
    ready = counted([m.c.priority.desc(), m.c.id], *where, m.c.state == READY)
    delayed, leased = (counted([m.c.vt], *where, m.c.state == s) for s in (DELAYED, LEASED))
    return select(ready + delayed + leased)


def held_page(messages: Table, names: tuple[str, ...], worker_id: int) -> Any:
    """Give `size` messages that a consumer holds from `start` on, in the order of the leases."""
    rows = select(*as_sent(messages, names)).where(*_held_by(messages, worker_id))
    return cut(rows.order_by(*_leases(messages)))


def held_count(messages: Table, worker_id: int) -> Any:
    """Count the messages that a consumer holds, through the index of leases."""
    return select(counted(_leases(messages), *_held_by(messages, worker_id)))


def add(table: Table, names: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    """Insert one row of `values`."""
    added = insert(table).values(_sent(table, values)).returning(*table.columns).cte("added")
    return select(*as_sent(added, names))


def change(table: Table, names: tuple[str, ...], values: Mapping[str, Any]) -> Any:
    """Set `values` on the row `row_id`."""
    statement = update(table).where(*_the_row(table)).values(_sent(table, values))
    return statement.returning(*as_sent(table, names))


def remove(table: Table) -> Any:
    """Delete the row `row_id`."""
    return delete(table).where(*_the_row(table))


def _held_by(messages: Table, worker_id: int) -> tuple[ColumnElement[bool], ...]:
    # The state makes the index of leases usable.
    return (messages.c.state == LEASED, unestimated(messages.c.consumer_worker_id == worker_id))


def _leases(messages: Table) -> list[Any]:
    return [messages.c.queue_id, messages.c.vt]


def _sent(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    # JSON comes as text that is already encoded.
    return {
        name: cast(bindparam(None, value, type_=Text), JSONB)
        if isinstance(table.c[name].type, JSONB) and value is not None
        else value
        for name, value in values.items()
    }


def cut(rows: Any) -> Any:
    """Give `size` of the rows, from `start` on."""
    # Not a plain limit: where fewer rows are expected, all that there are would be sorted.
    size = select(_number("size")).scalar_subquery()
    return rows.limit(size).offset(_number("start"))


def _the_row(table: Table) -> list[ColumnElement[bool]]:
    where = [table.c.id == bindparam("row_id", type_=BigInteger)]
    if "queue_id" in table.primary_key.columns:  # which begins with it: look in each queue
        (reference,) = table.c.queue_id.foreign_keys
        queues = select(reference.column).scalar_subquery()
        where.append(table.c.queue_id == any_(func.array(queues)))
    return where


def _number(name: str) -> ColumnElement[int]:
    return bindparam(name, type_=BigInteger)
