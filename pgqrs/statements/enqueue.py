"""Add messages. The queue's row is selected by name in the same statement: no row, no queue."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Executable,
    Insert,
    Integer,
    Interval,
    SmallInteger,
    Text,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, REGCLASS

from pgqrs.models import Tables
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["drawn", "enqueue_many", "enqueue_one", "rung"]


@per_schema
def enqueue_one(t: Tables) -> Executable:
    """Insert one message.

    Parameters: queue (its name), json (text), rank, phase (the state), delay, worker, attempts,
    kind (the message type), rings (whether to notify `channel`).
    Gives (id, queue_id, vt, enqueued_at, nothing), or no row where there is no such queue of
    standard policy.
    """
    row = _row(t, cast(bindparam("json", type_=Text), JSONB))
    added = _insert(t, row, select(*row.values()).where(_is_the_queue(t)))
    m = t.messages
    return added.returning(m.c.id, m.c.queue_id, m.c.vt, m.c.enqueued_at, rung())


@per_schema
def enqueue_many(t: Tables) -> Executable:
    """Insert the items of one JSON array, in its order; parameters as `enqueue_one`.

    Gives one row: (the ids as the text of an array, smaller ones for earlier items, queue_id, vt,
    enqueued_at, nothing); the first two are null where there is no such queue of standard policy.
    One jsonb array is several times faster than rows of parameters, and takes an eighth of the
    client's CPU that an array of texts does; of what is left, a row given back for each message
    would be most.
    """
    array = cast(bindparam("json", type_=Text), JSONB)
    elements = func.jsonb_array_elements(array)
    items = elements.table_valued("value", with_ordinality="position").render_derived("items")
    row = _row(t, items.c.value)
    rows = select(*row.values()).select_from(t.queues.join(items, _is_the_queue(t)))
    inserted = _insert(t, row, rows.order_by(items.c.position))
    added = inserted.returning(t.messages.c.id, t.messages.c.queue_id).cte("added")
    ids = cast(func.array_agg(added.c.id), Text)
    alike = func.min(added.c.queue_id), row["vt"], row["enqueued_at"]
    return select(ids, *alike, rung())


def _row(t: Tables, payload: ColumnElement[Any]) -> dict[str, ColumnElement[Any]]:
    now = func.statement_timestamp()
    return {
        "queue_id": t.queues.c.id,
        "vt": now + bindparam("delay", type_=Interval),
        "enqueued_at": now,
        "producer_worker_id": bindparam("worker", type_=BigInteger),
        "max_attempts": bindparam("attempts", type_=Integer),
        "priority": bindparam("rank", type_=SmallInteger),
        "state": bindparam("phase", type_=SmallInteger),
        "message_type": bindparam("kind", type_=Text),
        "payload": payload,
    }


def _is_the_queue(t: Tables) -> ColumnElement[bool]:
    named = t.queues.c.queue_name == bindparam("queue", type_=Text)
    return named & unestimated(t.queues.c.policy.is_(None))


def _insert(t: Tables, row: dict[str, ColumnElement[Any]], rows: Any) -> Insert:
    return insert(t.messages).from_select(list(row), rows, include_defaults=False)


def drawn(t: Tables) -> ColumnElement[int]:
    """Draw the id of a new message, where it must be known before the message is there."""
    sequence = literal_column(f"'\"{t.messages.schema}\".{t.messages.name}_id_seq'", Text)
    return func.nextval(cast(sequence, REGCLASS), type_=BigInteger)


def rung() -> ColumnElement[Any]:
    """Notify `channel` where it `rings`."""
    notify = func.pg_notify(bindparam("channel", type_=Text), literal_column("''"))
    return case((bindparam("rings", type_=Boolean), notify))
