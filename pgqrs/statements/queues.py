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
    ScalarSelect,
    Text,
    bindparam,
    delete,
    func,
    literal_column,
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
    "drop_keys",
    "drop_workers",
    "everyone",
    "find",
    "find_for_update",
    "users",
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
"""The columns of a queue that can be set as they are, with their types."""


@per_schema
def create(t: Tables) -> Executable:
    """Insert the queue `queue` with the options.

    Gives no row where there is one already, or no queue named `dead_letter`, of standard policy,
    unless that is null.
    """
    q = t.queues
    name = bindparam("dead_letter", type_=Text)
    row: dict[str, ColumnElement[Any]] = {
        "queue_name": bindparam("queue", type_=Text),
        **{option: bindparam(option, type_=kind) for option, kind in OPTIONS.items()},
        "dead_letter_queue_id": _id_of(t, name),
        "policy": func.nullif(bindparam("policy", type_=Text), _STANDARD),
    }
    rows = select(*row.values()).where(name.is_(None) | _id_of(t, name).is_not(None))
    added = (
        insert(q)
        .from_select(list(row), rows, include_defaults=False)
        .on_conflict_do_nothing()
        .returning(*q.columns)
        .cte("added")
    )
    return select(*as_sent(added, QUEUE))


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
    """Set the named options of the queue named `queue`; the parameters are `new_<option>`.

    Where `dead_letter` is one, it is the name of a queue, or empty for none; without such a queue
    nothing is changed.
    """
    t = tables(schema)
    q = t.queues
    values: dict[str, Any] = {
        name: bindparam(f"new_{name}", type_=OPTIONS[name]) for name in options & OPTIONS.keys()
    }
    where = [_named(t)]
    if "dead_letter" in options:
        name = bindparam("new_dead_letter", type_=Text)
        values["dead_letter_queue_id"] = _id_of(t, name)
        where.append((name == literal_column("''", Text)) | _id_of(t, name).is_not(None))
    return update(q).where(*where).values(values).returning(*as_sent(q, QUEUE))


@per_schema
def users(t: Tables) -> Executable:
    """Give the names of the queues whose dead letter queue is the one named `queue`."""
    q = t.queues
    mine = q.c.dead_letter_queue_id == _id_of(t, bindparam("queue", type_=Text))
    return select(q.c.queue_name).where(mine).order_by(q.c.queue_name)


@per_schema
def count_rows(t: Tables) -> Executable:
    """Count the messages and archived messages of `queue` (its id), exactly."""
    queue = bindparam("queue", type_=BigInteger)
    messages = message_count(t.messages, t.messages.c.queue_id == queue).scalar_subquery()
    archived = count_of(t.archive, t.archive.c.queue_id == queue).scalar_subquery()
    return select(messages, archived)


@per_schema
def drop_keys(t: Tables) -> Executable:
    """Delete the keys of `queue` (its id)."""
    return delete(t.keys).where(t.keys.c.queue_id == bindparam("queue", type_=BigInteger))


@per_schema
def drop_workers(t: Tables) -> Executable:
    """Delete the workers of `queue` (its id)."""
    return delete(t.workers).where(t.workers.c.queue_id == bindparam("queue", type_=BigInteger))


@per_schema
def drop(t: Tables) -> Executable:
    """Delete `queue` (its id)."""
    return delete(t.queues).where(t.queues.c.id == bindparam("queue", type_=BigInteger))


_STANDARD = literal_column("'standard'", Text)


def _named(t: Tables) -> ColumnElement[bool]:
    return t.queues.c.queue_name == bindparam("queue", type_=Text)


def _id_of(t: Tables, name: ColumnElement[str]) -> ScalarSelect[int]:
    q = t.queues.alias("named")
    # A policy might keep a copy out.
    return select(q.c.id).where(q.c.queue_name == name, q.c.policy.is_(None)).scalar_subquery()
