"""Create, find, change and drop queues."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Executable,
    Integer,
    Interval,
    Text,
    bindparam,
    delete,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from pgqrs.models import Tables, tables
from pgqrs.statements.columns import QUEUE, as_sent
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.rows import count_of, message_count

__all__ = [
    "OPTIONS",
    "change",
    "count_rows",
    "create",
    "drop",
    "drop_workers",
    "everyone",
    "find",
    "find_for_update",
]

OPTIONS = {
    "paused": Boolean,
    "archive_mode": Text,
    "visibility_timeout": Interval,
    "max_attempts": Integer,
    "retry_delay": Interval,
    "retry_delay_max": Interval,
    "retry_backoff": Boolean,
    "retention": Interval,
}
"""The columns of a queue that can be set, with their types."""


@per_schema
def create(t: Tables) -> Executable:
    """Insert the queue `queue` with the options; gives no row where there is one already."""
    q = t.queues
    options: dict[str, Any] = {name: bindparam(name, type_=kind) for name, kind in OPTIONS.items()}
    return (
        insert(q)
        .values(queue_name=bindparam("queue", type_=Text), **options)
        .on_conflict_do_nothing()
        .returning(*as_sent(q, QUEUE))
    )


@per_schema
def find(t: Tables) -> Executable:
    """Look the queue named `queue` up."""
    return select(*as_sent(t.queues, QUEUE)).where(_named(t))


@per_schema
def find_for_update(t: Tables) -> Executable:
    """Look the queue named `queue` up and keep others from adding to it until the commit."""
    return select(*as_sent(t.queues, QUEUE)).where(_named(t)).with_for_update()


@per_schema
def everyone(t: Tables) -> Executable:
    """List the queues by name."""
    return select(*as_sent(t.queues, QUEUE)).order_by(t.queues.c.queue_name)


@cache
def change(schema: str, options: frozenset[str]) -> Executable:
    """Set the named options of the queue named `queue`; the parameters are `new_<option>`."""
    t = tables(schema)
    values: dict[str, Any] = {
        name: bindparam(f"new_{name}", type_=OPTIONS[name]) for name in options
    }
    return update(t.queues).where(_named(t)).values(values).returning(*as_sent(t.queues, QUEUE))


@per_schema
def count_rows(t: Tables) -> Executable:
    """Count the messages and archived messages of `queue` (its id), exactly."""
    queue = bindparam("queue", type_=BigInteger)
    messages = message_count(t.messages, t.messages.c.queue_id == queue).scalar_subquery()
    archived = count_of(t.archive, t.archive.c.queue_id == queue).scalar_subquery()
    return select(messages, archived)


@per_schema
def drop_workers(t: Tables) -> Executable:
    """Delete the workers of `queue` (its id)."""
    return delete(t.workers).where(t.workers.c.queue_id == bindparam("queue", type_=BigInteger))


@per_schema
def drop(t: Tables) -> Executable:
    """Delete `queue` (its id)."""
    return delete(t.queues).where(t.queues.c.id == bindparam("queue", type_=BigInteger))


def _named(t: Tables) -> ColumnElement[bool]:
    return t.queues.c.queue_name == bindparam("queue", type_=Text)
