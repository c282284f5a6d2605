"""Add messages each of which may have options and keys of its own: the rarer way in.

In one statement: the keys are taken in sorted order, so that two batches cannot wait for each
other; then what got all its keys is inserted, unless another message stands in its queue's way.
What did not get in says why.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Executable,
    Integer,
    ScalarSelect,
    SmallInteger,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from pgqrs.models import Tables
from pgqrs.statements.enqueue import drawn, rung
from pgqrs.statements.keyed import slot_of
from pgqrs.statements.keys import ADDED, IDENTITY, KEEPING, ORDER, WINDOW, kept
from pgqrs.statements.options import seconds
from pgqrs.statements.per_schema import per_schema

__all__ = ["enqueue_each", "renew", "undo"]

_FIELDS: dict[str, Any] = {
    "rank": SmallInteger,
    "delay": Double,
    "at": DateTime(timezone=True),
    "attempts": Integer,
    "kind": Text,
    "message_id": Uuid,
    "single": Text,
    "window": Double,
    "ordering": Text,
}
_FIRST: ColumnElement[int] = literal_column("1")
_DAY: ColumnElement[Any] = literal_column("interval '1 day'")


@per_schema
def enqueue_each(t: Tables) -> Executable:
    """Insert the items of one JSON array, as far as nothing stands in the way.

    Parameters: queue (its name), items (text), worker, rings, channel. An item is an object of
    payload, headers, options and `_FIELDS`. Gives for each, in order, (queue_id, id or null where
    one is at fault, vt, enqueued_at, key, why it was refused, how long its window is still closed,
    how long ago the first key was taken, nothing); no row where there is no such queue.
    """
    items = _items(t)
    faultless = ~select(items.c.position).where(items.c.fault.is_not(None)).exists()
    numbered = _numbered(t, items, _ordered(t, items, faultless), faultless)
    taken = _taken(t, numbered)
    added = _added(t, numbered, taken)
    refusal = case(
        (items.c.fault.is_not(None), items.c.fault),
        (~_has(taken, IDENTITY, numbered, "message_id"), _text("id")),
        (~_has(taken, WINDOW, numbered, "window"), _text("window")),
        (added.c.id.is_(None), _text("policy")),
    )
    found = items.outerjoin(numbered, numbered.c.position == items.c.position)
    return (
        select(
            *(items.c.queue_id, numbered.c.id, added.c.vt, added.c.enqueued_at, items.c.key),
            *(refusal, _closed_for(t, items), _since(taken)),
            case((items.c.position == _FIRST, rung())),
        )
        .select_from(found.outerjoin(added, added.c.id == numbered.c.id))
        .order_by(items.c.position)
        .add_cte(kept(t, added))
    )


@per_schema
def renew(t: Tables) -> Executable:
    """Let the windows `keys` of messages `owners` begin now. Parameters: queue (its id), arrays."""
    k, now = t.keys, func.clock_timestamp()
    keys, owners = (
        bindparam("keys", type_=ARRAY(Text)),
        bindparam("owners", type_=ARRAY(BigInteger)),
    )
    those = func.unnest(keys, owners).table_valued("key", "owner").render_derived("those")
    mine = (k.c.queue_id == _queue_id(), k.c.kind == WINDOW, k.c.key == those.c.key)
    late = update(k).where(*mine, k.c.number == those.c.owner)
    return late.values(until=now + (k.c.until - k.c.taken_at), taken_at=now)


@per_schema
def undo(t: Tables) -> Executable:
    """Take back messages `mids` that were just added, and the keys (kinds, keys, mids) they took.

    Parameters: queue (its id), and arrays.
    """
    m, k = t.messages, t.keys
    kinds = bindparam("kinds", type_=ARRAY(SmallInteger))
    keys = bindparam("keys", type_=ARRAY(Text))
    owners, mids = (bindparam(name, type_=ARRAY(BigInteger)) for name in ("owners", "mids"))
    columns = func.unnest(kinds, keys, owners).table_valued("kind", "key", "owner")
    those = columns.render_derived("those")
    freed = delete(k).where(
        k.c.queue_id == _queue_id(),
        *(k.c.kind == those.c.kind, k.c.key == those.c.key, k.c.number == those.c.owner),
    )
    texts = func.array(select(cast(func.unnest(mids), Text)).scalar_subquery())
    kept = delete(k).where(
        k.c.queue_id == _queue_id(),
        *(k.c.kind == KEEPING, k.c.key == any_(texts)),
    )
    gone = delete(m).where(m.c.id == any_(mids))
    return gone.add_cte(freed.cte("freed"), kept.cte("unkept"))


def _items(t: Tables) -> CTE:
    """Read the items, with the queue, the key that counts, and what is wrong with them."""
    q = t.queues
    array = cast(bindparam("items", type_=Text), JSONB)
    elements = func.jsonb_array_elements(array)
    each = elements.table_valued("value", with_ordinality="position").render_derived("each")
    fields = {name: _field(each.c.value, name, kind) for name, kind in _FIELDS.items()}
    objects = {name: _object(each.c.value, name) for name in ("payload", "headers", "options")}
    ordered = q.c.policy == _text("fifo")
    single = func.coalesce(fields["single"], case((q.c.policy.is_not(None), _text(""))))
    key = case((ordered, fields["ordering"]), else_=single)
    columns = {"position": each.c.position, "queue_id": q.c.id, "policy": q.c.policy, "key": key}
    values = columns | fields | objects | {"fault": _fault(t, each, fields)}
    rows = select(*(value.label(name) for name, value in values.items()))
    of_queue = q.c.queue_name == bindparam("queue", type_=Text)
    return rows.select_from(q.join(each, of_queue)).cte("items")


def _fault(t: Tables, each: Any, fields: Any) -> ColumnElement[Any]:
    q, other = t.queues, t.queues.alias("other")
    letters = _object(each.c.value, "options").op("->>", return_type=Text())(_text("dead_letter"))
    fits = (other.c.queue_name == letters) & (other.c.id != q.c.id) & other.c.policy.is_(None)
    known = select(other.c.id).where(fits).correlate(q, each).scalar_subquery().is_not(None)
    ordered = func.coalesce(q.c.policy, _text("")) == _text("fifo")
    keyless = q.c.policy.is_(None) | ordered
    return case(
        ((letters != _text("")) & ~known, _text("dead_letter")),
        (fields["ordering"].is_not(None) & ~ordered, _text("ordering_key")),
        (fields["single"].is_not(None) & fields["window"].is_(None) & keyless, _text("key")),
    )


def _ordered(t: Tables, items: CTE, faultless: ColumnElement[bool]) -> CTE:
    """Lock the ordering keys, in their order, before any id is drawn."""
    k, now = t.keys, func.clock_timestamp()
    wanted = (items.c.policy == _text("fifo"), items.c.key.is_not(None), faultless)
    rows = (
        select(items.c.queue_id, ORDER.label("kind"), items.c.key)
        .distinct()
        .where(*wanted)
        .subquery()
    )
    row = select(*rows.c, now, now + _DAY).order_by(rows.c.key)
    names = ["queue_id", "kind", "key", "taken_at", "until"]
    statement = insert(k).from_select(names, row, include_defaults=False)
    locked = statement.on_conflict_do_update(
        index_elements=[k.c.queue_id, k.c.kind, k.c.key],
        set_={"until": statement.excluded.until},
    )
    return locked.returning(k.c.key).cte("ordered")


def _numbered(t: Tables, items: CTE, ordered: CTE, faultless: ColumnElement[bool]) -> CTE:
    rows = select(*items.c, drawn(t).label("id"))
    locked = select(func.count()).select_from(ordered).scalar_subquery()
    return rows.where(faultless, locked >= 0).order_by(items.c.position).cte("numbered")


def _taken(t: Tables, numbered: CTE) -> CTE:
    k, now = t.keys, func.clock_timestamp()
    wanted = union_all(
        _wanted(numbered, IDENTITY, cast(numbered.c.message_id, Text), _DAY, "message_id"),
        _wanted(numbered, WINDOW, _window_key(numbered), seconds(numbered.c.window), "window"),
    ).subquery()
    # One statement may take a key once: the first of a batch does.
    same = func.row_number().over(
        partition_by=[wanted.c.kind, wanted.c.key], order_by=wanted.c.number
    )
    firsts = select(*wanted.c, same.label("place")).subquery()
    columns = [firsts.c[name] for name in ("queue_id", "kind", "key", "number")]
    rows = select(*columns, now, now + firsts.c.lasts)
    row = rows.where(firsts.c.place == literal_column("1")).order_by(*columns[1:3])
    names = ["queue_id", "kind", "key", "number", "taken_at", "until"]
    statement = insert(k).from_select(names, row, include_defaults=False)
    # By the clock when the lock is had: who waited for it must not be given a shorter window.
    again = {
        "number": statement.excluded.number,
        "taken_at": now,
        "until": now + (statement.excluded.until - statement.excluded.taken_at),
    }
    over = (k.c.kind == WINDOW) & (k.c.until <= func.clock_timestamp())
    elements = [k.c.queue_id, k.c.kind, k.c.key]
    upsert = statement.on_conflict_do_update(index_elements=elements, set_=again, where=over)
    return upsert.returning(k.c.kind, k.c.number, k.c.taken_at).cte("taken")


def _wanted(
    numbered: CTE,
    kind: ColumnElement[int],
    key: ColumnElement[str],
    lasts: ColumnElement[Any],
    where: str,
) -> Any:
    row = {"queue_id": numbered.c.queue_id, "kind": kind, "key": key, "number": numbered.c.id}
    columns: list[ColumnElement[Any]] = [column.label(name) for name, column in row.items()]
    return select(*columns, lasts.label("lasts")).where(numbered.c[where].is_not(None))


def _window_key(source: CTE) -> ColumnElement[str]:
    return func.coalesce(source.c.single, _text(""))


def _has(taken: CTE, kind: ColumnElement[int], numbered: CTE, where: str) -> ColumnElement[bool]:
    """Say that a message has its key of this kind, or needs none."""
    numbers = select(taken.c.number).where(taken.c.kind == kind).scalar_subquery()
    return numbered.c[where].is_(None) | (numbered.c.id == any_(func.array(numbers)))


def _added(t: Tables, numbered: CTE, taken: CTE) -> CTE:
    m, n = t.messages, numbered.c
    now = func.statement_timestamp()
    took = select(func.max(taken.c.taken_at)).where(taken.c.number == n.id)
    vt = func.coalesce(n.at, now + seconds(func.coalesce(n.delay, literal_column("0"))))
    row: dict[str, ColumnElement[Any]] = {
        **{name: n[name] for name in ("id", "queue_id", "payload", "message_id", "key")},
        "vt": vt,
        "enqueued_at": func.greatest(now, took.correlate(numbered).scalar_subquery()),
        "producer_worker_id": bindparam("worker", type_=BigInteger),
        "max_attempts": n.attempts,
        "priority": func.coalesce(n.rank, literal_column("0")),
        "state": case((vt > now, literal_column("1")), else_=literal_column("0")),
        "message_type": n.kind,
        "headers": n.headers,
        "options": n.options,
        "key_slot": slot_of(n.policy, n.key, n.id),
    }
    got = (_has(taken, IDENTITY, numbered, "message_id"), _has(taken, WINDOW, numbered, "window"))
    # By key: where another one stands, its transaction is waited for, and in one order.
    rows = select(*row.values()).where(*got).order_by(n.key, n.position)
    statement = insert(m).from_select(list(row), rows, include_defaults=False)
    alone = statement.on_conflict_do_nothing()
    return alone.returning(*(m.c[name] for name in ADDED)).cte("added")


def _since(taken: CTE) -> ScalarSelect[Any]:
    ago = func.clock_timestamp() - func.min(taken.c.taken_at)
    return select(ago).select_from(taken).scalar_subquery()


def _closed_for(t: Tables, items: CTE) -> ScalarSelect[Any]:
    k = t.keys
    window = (
        k.c.queue_id == items.c.queue_id,
        k.c.kind == WINDOW,
        k.c.key == _window_key(items),
        items.c.window.is_not(None),
    )
    found = select(k.c.until - func.clock_timestamp()).where(*window)
    return found.correlate(items).scalar_subquery()


def _field(value: ColumnElement[Any], name: str, kind: Any) -> ColumnElement[Any]:
    text = value.op("->>", return_type=Text())(_text(name))
    return text if kind is Text else cast(text, kind)


def _object(value: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return value.op("->", return_type=JSONB())(_text(name))


def _queue_id() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _text(word: str) -> ColumnElement[str]:
    return literal_column("'" + word.replace("'", "''") + "'", Text)
