"""Look at keys whose time has come: what has become of their messages, and who needs them still."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from pgqrs.models import LEASED, Tables
from pgqrs.statements.acknowledge import archived
from pgqrs.statements.columns import LEAVING
from pgqrs.statements.keys import IDENTITY, KEEPING, ORDER, WINDOW, among
from pgqrs.statements.options import option, seconds
from pgqrs.statements.per_schema import per_schema

__all__ = ["look_after"]

_ONE: ColumnElement[int] = literal_column("1")
_DAY: ColumnElement[Any] = literal_column("interval '1 day'")
_MOMENT: ColumnElement[Any] = literal_column("interval '1 microsecond'")
_NEVER_LEASED: ColumnElement[int] = literal_column("0")
"""The read count of what nobody leased."""
_MARGIN: ColumnElement[Any] = literal_column("interval '10 minutes'")
"""Longer than anybody waits for a lock: who waits for a key that is dropped counts from before."""


@per_schema
def look_after(t: Tables) -> Executable:
    """Look at up to `n` keys of `queue` (its id) whose time has come until `upto`.

    What nobody needs is deleted, and the rest is to be looked at after that instant. A message that
    is kept for a time goes to the archive as expired where it was never leased so long after it was
    due, and out of the archive when its time there is over. Gives (how many keys were done with,
    how many messages expired, how many archived ones were deleted).
    """
    due = _due(t)
    gone = _expired(t, due)
    outdated = _outdated(t, due)
    again = _again(t, due, gone)
    k = t.keys
    later = update(k).where(among(t, again))
    kept = later.values(until=_until(t, again)).returning(k.c.key).cte("kept_keys")
    needed = select(again.c.key).where(again.c.key == due.c.key, again.c.kind == due.c.kind)
    # What this very statement deletes is still there for it.
    gone_now = due.c.number == any_(func.array(select(outdated.c.id).scalar_subquery()))
    unneeded = due.c.kind.in_([ORDER, WINDOW]) | ~_is_held(t, due) | gone_now
    over = select(due.c.kind, due.c.key).where(unneeded, ~needed.correlate(due).exists())
    gone_keys = delete(k).where(among(t, over.cte("over")))
    dropped = gone_keys.returning(k.c.key).cte("dropped_keys")
    counts = [_count(each) for each in (kept, dropped, gone, outdated)]
    mode = select(t.queues.c.archive_mode).where(t.queues.c.id == _queue()).scalar_subquery()
    done = select(counts[0] + counts[1], counts[2], counts[3])
    return done.add_cte(archived(t, gone, mode))


def _due(t: Tables) -> CTE:
    k = t.keys
    come = or_(k.c.kind.in_([IDENTITY, KEEPING]), k.c.until <= _upto() - _MARGIN)
    rows = select(k.c.queue_id, k.c.kind, k.c.key, k.c.number)
    of_queue = rows.where(k.c.queue_id == _queue(), k.c.until <= _upto(), come)
    some = of_queue.order_by(k.c.until).limit(_n()).with_for_update(skip_locked=True)
    return some.cte("due")


def _until(t: Tables, again: CTE) -> ColumnElement[Any]:
    # By the text alone: a UUID is no number.
    keys = select(func.array_agg(again.c.key, type_=ARRAY(Text))).scalar_subquery()
    times = ARRAY(DateTime(timezone=True))
    untils = select(func.array_agg(again.c.until, type_=times)).scalar_subquery()
    return untils[func.array_position(keys, t.keys.c.key)]


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
    over = m.c.vt + _time(m) <= func.statement_timestamp()
    rows = select(m.c.id).where(
        m.c.id == any_(_kept(due)), m.c.read_ct == _NEVER_LEASED, m.c.state != LEASED, over
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
    # An array of one queue: with the queue itself, PostgreSQL 15 may read all of its history.
    here = func.array(select(_queue()).scalar_subquery())
    mine = (a.c.queue_id == any_(here), a.c.id == any_(_kept(due)), over)
    return delete(a).where(*mine).returning(a.c.id).cte("outdated")


def _again(t: Tables, due: CTE, gone: CTE) -> CTE:
    """Say when to look again at keys that are still needed."""
    m, a = t.messages, t.archive
    now = func.clock_timestamp()
    # One by one: a join may read whole tables.
    here = (
        select(m.c.id, m.c.read_ct, m.c.vt, m.c.options).where(m.c.id == due.c.number).limit(_ONE)
    )
    there = select(a.c.id, a.c.archived_at, a.c.options).where(
        a.c.queue_id == _queue(), a.c.id == due.c.number
    )
    waiting = here.correlate(due).lateral("waiting")
    past = there.limit(_ONE).correlate(due).lateral("past")
    places = due.outerjoin(waiting, true()).outerjoin(past, true())
    leaves = select(gone.c.id).where(gone.c.id == due.c.number).correlate(due).scalar_subquery()
    unleased = (waiting.c.read_ct == _NEVER_LEASED) & leaves.is_(None)
    until = case(
        (due.c.kind == IDENTITY, now + _DAY),
        (unleased, waiting.c.vt + _time(waiting)),
        (waiting.c.id.is_not(None), now + _time(waiting)),
        else_=past.c.archived_at + _time(past),
    )
    found = or_(waiting.c.id.is_not(None), past.c.id.is_not(None))
    still = or_(
        due.c.kind == IDENTITY, waiting.c.id.is_not(None), until > func.statement_timestamp()
    )
    # In the next round, not in this one: what is over but was locked just now, or so again soon.
    later = func.greatest(until, _upto() + _MOMENT).label("until")
    rows = select(due.c.kind, due.c.key, later).select_from(places)
    return rows.where(due.c.kind.in_([IDENTITY, KEEPING]), found, still).cte("again")


def _time(source: Any) -> ColumnElement[Any]:
    return seconds(option(source, "retain_for", Double))


def _count(some: CTE) -> ColumnElement[int]:
    return select(func.count()).select_from(some).scalar_subquery()


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _upto() -> ColumnElement[Any]:
    instant = bindparam("upto", type_=DateTime(timezone=True))
    return select(instant).scalar_subquery()


def _n() -> ColumnElement[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()
