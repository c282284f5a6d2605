"""Enqueue copies of what dies in the dead letter queue, in the statement in which it dies.

Where a queue has none, its statements have one step more that does nothing.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Executable,
    Integer,
    Select,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    null,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import DELAYED, READY, Tables
from pgqrs.policy import QueuePolicy
from pgqrs.statements.keyed import slot_of, stands_at
from pgqrs.statements.keys import ADDED, kept
from pgqrs.statements.options import option
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["ADDRESS", "copied", "noted", "replay"]

ADDRESS = ("queue_name", "dead_letter_queue_id")
"""What `copied` needs to know of the queue, beside its messages."""


def copied(t: Tables, gone: CTE, terms: CTE, name: str, *where: ColumnElement[bool]) -> CTE:
    """Enqueue what is `gone` in the dead letter queue; the `terms` have the queue's ADDRESS.

    A copy keeps priority, type, payload, headers and the error. Its headers note what died.
    """
    usual = select(terms.c.dead_letter_queue_id).scalar_subquery()
    q, own = t.queues, option(gone, "dead_letter", Text)
    # Under a policy a copy might be kept out.
    named = select(q.c.id).where(q.c.queue_name == own, q.c.policy.is_(None)).correlate(gone)
    letters = case((own.is_(None), usual), else_=named.scalar_subquery())
    now = func.clock_timestamp()
    row: dict[str, ColumnElement[Any]] = {
        "queue_id": letters,
        "vt": now,
        "enqueued_at": now,
        "state": READY,
        **{each: gone.c[each] for each in ("priority", "payload", "message_type", "error")},
        "headers": noted(gone.c.headers, dead_letter_of=_origin(gone, terms)),
    }
    rows = select(*row.values()).select_from(gone).where(letters.is_not(None), *where)
    return insert(t.messages).from_select(list(row), rows, include_defaults=False).cte(name)


def _origin(gone: CTE, terms: CTE) -> ColumnElement[Any]:
    came_from = select(terms.c.queue_name).scalar_subquery()
    origin = func.jsonb_build_object(
        *(_text("queue"), came_from, _text("id"), gone.c.id),
        *(_text("attempts"), gone.c.read_ct - gone.c.returned_ct),
        *(_text("max_attempts"), gone.c.max_attempts),
    )
    more = func.jsonb_build_object(*(_text("key"), gone.c.key), *(_text("options"), gone.c.options))
    return origin.op("||", return_type=JSONB())(func.jsonb_strip_nulls(more))


def noted(headers: ColumnElement[Any], **notes: ColumnElement[Any]) -> ColumnElement[Any]:
    """Give headers with pgqrs's own notes, under the key `pgqrs`, replaced by these."""
    pairs = [part for name, value in notes.items() for part in (_text(name), value)]
    mine = func.jsonb_build_object(_text("pgqrs"), func.jsonb_build_object(*pairs))
    return func.coalesce(headers, literal_column("'{}'::jsonb")).op("||")(mine)


@per_schema
def replay(t: Tables) -> Executable:
    """Move up to `n` waiting dead letters of `queue` (its id) back to where they came from.

    They keep the id of the copy, and have all attempts anew. What nobody died for, whose queue is
    gone, or what is kept out there, stays. Gives the ids.
    """
    m, q = t.messages, t.queues
    origin = _origin_of(t)
    key = origin["key"].astext
    back = (
        update(m)
        .where(_is_first(t), q.c.queue_name == origin["queue"].astext)
        .values(
            queue_id=q.c.id,
            state=READY,
            vt=func.clock_timestamp(),
            consumer_worker_id=null(),
            returned_ct=m.c.read_ct,
            max_attempts=cast(origin["max_attempts"].astext, Integer),
            options=origin["options"],
            key=key,
            key_slot=slot_of(q.c.policy, key, m.c.id, leased=true()),
            headers=noted(m.c.headers, replay_of=origin["id"]),
        )
        .returning(*(m.c[name] for name in ADDED))
        .cte("back")
    )
    return select(back.c.id).add_cte(kept(t, back))


def _is_first(t: Tables) -> ColumnElement[bool]:
    m = t.messages
    chosen = union_all(
        _some(t, m.c.state == READY, order=[m.c.priority.desc(), m.c.id]),
        _some(t, m.c.state == DELAYED, order=[m.c.vt]),
    ).subquery("waiting")
    some = select(chosen.c.id).limit(_n()).scalar_subquery()
    # Where no other may stand beside it, the first of a key.
    places = (_exclusive(t).label("place"), _origin_of(t)["key"].astext.label("key"))
    those = select(m.c.id, *places).where(m.c.id == any_(func.array(some))).limit(_n())
    o = those.cte("origins").c
    turn = func.row_number().over(partition_by=[o.place, o.key], order_by=o.id)
    alone = o.place.is_not(None) & o.key.is_not(None)
    placed = select(o.id, alone.label("alone"), turn.label("turn")).subquery("placed")
    first = select(placed.c.id).where(~placed.c.alone | (placed.c.turn == literal_column("1")))
    return m.c.id == any_(func.array(first.scalar_subquery()))


def _exclusive(t: Tables) -> ColumnElement[Any]:
    """Give the id of the queue that a dead letter came from, if that is of policy exclusive."""
    q = t.queues.alias("came_from")
    wanted = (q.c.queue_name == _origin_of(t)["queue"].astext, q.c.policy == _EXCLUSIVE)
    return select(q.c.id).where(*wanted).correlate(t.messages).scalar_subquery()


def _origin_of(t: Tables) -> Any:
    return t.messages.c.headers["pgqrs"]["dead_letter_of"]


def _some(t: Tables, state: ColumnElement[bool], order: list[Any]) -> Select[Any]:
    m, q = t.messages, t.queues
    origin = _origin_of(t)
    known = origin["queue"].astext == any_(func.array(select(q.c.queue_name).scalar_subquery()))
    kept_out = stands_at(t, _exclusive(t), origin["key"].astext, m)
    may = unestimated(known & ~kept_out)
    rows = select(m.c.id).where(m.c.queue_id == _queue(), state, may)
    arm = rows.order_by(*order).limit(_n()).with_for_update(skip_locked=True, of=m)
    found: Select[Any] = select(arm.cte().c.id)
    return found


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _n() -> ColumnElement[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()


_EXCLUSIVE = literal_column(f"'{QueuePolicy.EXCLUSIVE.value}'", Text)


def _text(word: str) -> ColumnElement[str]:
    return literal_column(f"'{word}'", Text)
