"""The keys beside the messages: what they are, taken or freed with their message."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    SmallInteger,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
)

from pgqrs.models import Tables
from pgqrs.statements.options import option, seconds

__all__ = ["ADDED", "IDENTITY", "KEEPING", "ORDER", "WINDOW", "among", "freed", "kept"]

ORDER = literal_column("0", SmallInteger)
"""An ordering key: locked until the commit of who enqueues, so that ids are in commit order."""
WINDOW = literal_column("1", SmallInteger)
"""A window: no second message under this key before `until`."""
IDENTITY = literal_column("2", SmallInteger)
"""A caller's id: `number` has it, for as long as it is anywhere."""
KEEPING = literal_column("3", SmallInteger)
"""A message that is kept for a time: when to look what has become of it."""
ADDED = ("id", "queue_id", "vt", "enqueued_at", "options")
"""What `kept` needs to know of a new message."""


def kept(t: Tables, added: CTE) -> CTE:
    """Note when to look what has become of new messages that are kept for a time."""
    span = option(added, "retain_for", Double)
    row: dict[str, ColumnElement[Any]] = {
        "queue_id": added.c.queue_id,
        "kind": KEEPING,
        "key": cast(added.c.id, Text),
        "number": added.c.id,
        "taken_at": added.c.enqueued_at,
        "until": added.c.vt + seconds(span),
    }
    held = select(*row.values()).where(span.is_not(None))
    return insert(t.keys).from_select(list(row), held, include_defaults=False).cte("kept_for")


def among(t: Tables, some: FromClause) -> ColumnElement[bool]:
    """Say that a key of `queue` (its id) is one of `some` (kind, key).

    Each is looked up in the index and found by its place: before PostgreSQL 17 an array of keys may
    be no reason to use the index.
    """
    k, looked = t.keys, t.keys.alias("looked")
    queue = bindparam("queue", type_=BigInteger)
    same = (looked.c.queue_id == queue, looked.c.kind == some.c.kind, looked.c.key == some.c.key)
    ctid: ColumnElement[Any] = literal_column("looked.ctid")
    place = select(ctid.label("place")).select_from(looked).where(*same)
    one = place.limit(literal_column("1")).correlate(some).lateral("one")
    places = select(one.c.place).select_from(some.join(one, true())).scalar_subquery()
    return literal_column(f'"{k.schema}".{k.name}.ctid') == any_(func.array(places))


def freed(t: Tables, gone: CTE) -> CTE:
    """Delete the windows that messages took which are `gone`, and were cancelled."""
    k = t.keys
    mine = (
        k.c.queue_id == gone.c.queue_id,
        k.c.kind == WINDOW,
        k.c.key == option(gone, "window", Text),
        k.c.number == gone.c.id,
        gone.c.status == literal_column("'cancelled'"),
    )
    return delete(k).where(*mine).returning(k.c.number).cte("freed")
