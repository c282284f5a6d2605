"""Look at messages wherever they are, with where they stand; changes nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    FromClause,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from pgqrs.models import LEASED, Tables, tables
from pgqrs.statements.columns import ARCHIVED, as_sent
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated
from pgqrs.statements.rows import cut, message_page

__all__ = ["archived", "find", "page"]

_SAME = ("queue_id", "priority", "message_type", "read_ct", "returned_ct", "max_attempts")
_FINISHED = {
    "cancelled": "cancelled",
    "failed": "failed",
    "dead": "failed",
    "expired": "expired",
}


@per_schema
def find(t: Tables) -> Executable:
    """Look the message `mid` up, in the queues and in the archive; a row is a MessageInfo."""
    a, mid = t.archive, bindparam("mid", type_=BigInteger)
    every_queue = func.array(select(t.queues.c.id).scalar_subquery())  # the key begins with it
    archived = select(*_archived(t)).where(a.c.queue_id == any_(every_queue), a.c.id == mid)
    return union_all(select(*_waiting(t)).where(t.messages.c.id == mid), archived)


@per_schema
def page(t: Tables) -> Executable:
    """Give `size` messages of `queue` (its id) from `start` on; a row is a MessageInfo."""
    of_queue = t.messages.c.queue_id == _queue()
    statement: Executable = message_page(t.messages, _waiting(t), of_queue)
    return statement


@cache
def archived(schema: str, *, by_status: bool, unfinished: bool) -> Executable:
    """Give `size` archived messages of `queue` (its id), the newest first, from `start` on.

    Of one `status` or of any; what did not complete is found by an index of its own.
    """
    a = tables(schema).archive
    rows = select(*as_sent(a, ARCHIVED)).where(a.c.queue_id == _queue())
    if by_status:
        rows = rows.where(unestimated(a.c.status == bindparam("status", type_=Text)))
    if unfinished:
        rows = rows.where(a.c.status != _text("completed"))
    statement: Executable = cut(rows.order_by(a.c.queue_id.desc(), a.c.id.desc()))
    return statement


def _waiting(t: Tables) -> list[ColumnElement[Any]]:
    m = t.messages
    leased = (m.c.state == LEASED) & (m.c.vt > func.statement_timestamp())
    tried = m.c.read_ct > m.c.returned_ct
    state = case((leased, _text("active")), (tried, _text("retry")), else_=_text("created"))
    return _row(t, m, state, cast(null(), Text), cast(null(), m.c.vt.type))


def _archived(t: Tables) -> list[ColumnElement[Any]]:
    a = t.archive
    states = [(a.c.status == _text(kept), _text(shown)) for kept, shown in _FINISHED.items()]
    return _row(t, a, case(*states, else_=_text("completed")), a.c.status, a.c.archived_at)


def _row(
    t: Tables,
    source: FromClause,
    state: ColumnElement[str],
    status: ColumnElement[Any],
    archived_at: ColumnElement[Any],
) -> list[ColumnElement[Any]]:
    q, c = t.queues, source.c
    name = select(q.c.queue_name).where(q.c.id == c.queue_id).correlate(source).scalar_subquery()
    output = cast(c.output, Text) if "output" in c else cast(null(), Text)
    return [
        c.id,
        name.label("queue_name"),
        state.label("state"),
        status.label("status"),
        *(c[each] for each in _SAME),
        *(c.enqueued_at, c.vt, c.dequeued_at, archived_at.label("archived_at")),
        *(c.producer_worker_id, c.consumer_worker_id),
        *(cast(c[each], Text).label(each) for each in ("payload", "headers")),
        output.label("output"),
        *(cast(c[each], Text).label(each) for each in ("error", "options")),
        *(c.message_id, c.key),
    ]


def _text(word: str) -> ColumnElement[str]:
    return literal_column(f"'{word}'", Text)


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)
