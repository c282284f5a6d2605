"""Look at keys whose time has come: what has become of their messages, and who needs them still."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    Executable,
    Text,
    any_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import LEASED, Tables
from pgqrs.statements.acknowledge import archived
from pgqrs.statements.columns import LEAVING
from pgqrs.statements.keys import IDENTITY, KEEPING, ORDER, WINDOW
from pgqrs.statements.options import option, seconds
from pgqrs.statements.per_schema import per_schema

__all__ = ["look_after"]

_DAY: ColumnElement[Any] = literal_column("interval '1 day'")
_MARGIN: ColumnElement[Any] = literal_column("interval '10 minutes'")
"""Longer than anybody waits for a lock: who waits for a key that is dropped counts from before."""


@per_schema
def look_after(t: Tables) -> Executable:
    """Look at up to `n` keys of `queue` (its id) whose time has come.

    What nobody needs is deleted. A message that is kept for a time goes to the archive as expired
    where it was never leased, and out of the archive when its time there is over. Gives (how many
    keys were done with, how many messages expired, how many archived ones were deleted).
    """
    due = _due(t)
    gone = _expired(t, due)
    outdated = _outdated(t, due)
    again = _again(t, due, gone)
    k = t.keys
    same = (k.c.queue_id == due.c.queue_id, k.c.kind == due.c.kind, k.c.key == due.c.key)
    later = update(k).where(*same, again.c.key == due.c.key, again.c.kind == due.c.kind)
    kept = later.values(until=again.c.until).returning(k.c.key).cte("kept_keys")
    needed = select(again.c.key).where(again.c.key == due.c.key, again.c.kind == due.c.kind)
    # What this very statement deletes is still there for it.
    gone_now = due.c.number == any_(func.array(select(outdated.c.id).scalar_subquery()))
    unneeded = due.c.kind.in_([ORDER, WINDOW]) | ~_is_held(t, due) | gone_now
    over = unneeded & ~needed.correlate(due).exists()
    dropped = delete(k).where(*same, over).returning(k.c.key).cte("dropped_keys")
    counts = [_count(each) for each in (kept, dropped, gone, outdated)]
    mode = select(t.queues.c.archive_mode).where(t.queues.c.id == _queue()).scalar_subquery()
    done = select(counts[0] + counts[1], counts[2], counts[3])
    return done.add_cte(archived(t, gone, mode))


def _due(t: Tables) -> CTE:
    k, now = t.keys, func.statement_timestamp()
    come = or_(k.c.kind.in_([IDENTITY, KEEPING]), k.c.until <= now - _MARGIN)
    rows = select(k.c.queue_id, k.c.kind, k.c.key, k.c.number)
    of_queue = rows.where(k.c.queue_id == _queue(), k.c.until <= now, come)
    some = of_queue.order_by(k.c.until).limit(_n()).with_for_update(skip_locked=True)
    return some.cte("due")


def _kept(due: CTE) -> ColumnElement[Any]:
    ids = select(due.c.number).where(due.c.kind == KEEPING)
    return func.array(ids.scalar_subquery())


def _is_held(t: Tables, due: CTE) -> ColumnElement[bool]:
    """Say that a message of the due key is there, in the queue or in the archive."""
    m, a = t.messages, t.archive
    here = select(m.c.id).where(m.c.id == due.c.number).correlate(due).scalar_subquery()
    there = select(a.c.id).where(a.c.queue_id == due.c.queue_id, a.c.id == due.c.number)
    return here.is_not(None) | there.correlate(due).scalar_subquery().is_not(None)


def _expired(t: Tables, due: CTE) -> CTE:
    m = t.messages
    rows = select(m.c.id).where(
        m.c.id == any_(_kept(due)), m.c.read_ct == literal_column("0"), m.c.state != LEASED
    )
    chosen = rows.with_for_update(skip_locked=True).scalar_subquery()
    return (
        delete(m)
        .where(m.c.id == any_(func.array(chosen)))
        .returning(
            *(m.c[name] for name in (*LEAVING, "error")),
            func.clock_timestamp().label("archived_at"),
            literal_column("'expired'", Text).label("status"),
            null().cast(JSONB).label("output"),
        )
        .cte("gone")
    )


def _outdated(t: Tables, due: CTE) -> CTE:
    a = t.archive
    over = a.c.archived_at + _time(a) <= func.statement_timestamp()
    mine = (a.c.queue_id == _queue(), a.c.id == any_(_kept(due)), over)
    return delete(a).where(*mine).returning(a.c.id).cte("outdated")


def _again(t: Tables, due: CTE, gone: CTE) -> CTE:
    """Say when to look again at keys that are still needed."""
    m, a = t.messages, t.archive
    now = func.clock_timestamp()
    waits = due.outerjoin(m, m.c.id == due.c.number).outerjoin(
        a, (a.c.queue_id == due.c.queue_id) & (a.c.id == due.c.number)
    )
    leaves = select(gone.c.id).where(gone.c.id == due.c.number).correlate(due).scalar_subquery()
    until = case(
        (due.c.kind == IDENTITY, now + _DAY),
        (m.c.id.is_not(None), now + _time(m)),
        else_=a.c.archived_at + _time(a),
    )
    there = or_(m.c.id.is_not(None), a.c.id.is_not(None))
    # One that is due and waits, but was locked just now, is looked at in the next round.
    busy = (due.c.kind == KEEPING) & (m.c.read_ct == literal_column("0")) & leaves.is_(None)
    still = or_(due.c.kind == IDENTITY, m.c.id.is_not(None), until > func.statement_timestamp())
    rows = select(due.c.kind, due.c.key, until.label("until")).select_from(waits)
    wanted = due.c.kind.in_([IDENTITY, KEEPING])
    return rows.where(wanted, there, still, func.coalesce(~busy, true())).cte("again")


def _time(source: Any) -> ColumnElement[Any]:
    return seconds(option(source, "retain_for", Double))


def _count(some: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(some).scalar_subquery()


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _n() -> ColumnElement[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()
