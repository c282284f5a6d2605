"""Take messages out of the queue by their ids, whoever holds them: what an operator does.

Each statement skips what somebody is just changing; the form that `waits` is for one id, so that no
two can wait for each other. A holder that comes later finds its fence broken.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Executable,
    Text,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import LEASED, READY, Tables, tables
from pgqrs.statements.acknowledge import archived
from pgqrs.statements.arrays import numbers
from pgqrs.statements.columns import LEAVING
from pgqrs.statements.keys import freed
from pgqrs.statements.planning import unestimated

__all__ = ["archive", "asked_ids", "asked_of", "delete_any", "release"]


@cache
def archive(schema: str, *, waits: bool) -> Executable:
    """Move messages `mids` to the archive with `outcome`, and `reason` (JSON text) if not null.

    With `force` those under an unexpired lease too. What is cancelled frees its window. Gives (id,
    whether it was done, whether it was there to be done) for each.
    """
    t = tables(schema)
    m = t.messages
    gone = (
        delete(m)
        .where(m.c.id == any_(_chosen(t, waits=waits)))
        .returning(
            *(m.c[name] for name in LEAVING),
            func.clock_timestamp().label("archived_at"),
            bindparam("outcome", type_=Text).label("status"),
            func.coalesce(cast(bindparam("reason", type_=Text), JSONB), m.c.error).label("error"),
            null().cast(JSONB).label("output"),
        )
        .cte("gone")
    )
    q = t.queues
    mode = select(q.c.archive_mode).where(q.c.id == gone.c.queue_id).correlate(gone)
    kept = archived(t, gone, mode.scalar_subquery())
    return asked_of(gone.c.id, _there(t), kept, freed(t, gone))


@cache
def delete_any(schema: str, *, waits: bool) -> Executable:
    """Delete messages `mids`; otherwise as `archive`."""
    t = tables(schema)
    m = t.messages
    chosen = m.c.id == any_(_chosen(t, waits=waits))
    return asked_of(delete(m).where(chosen).returning(m.c.id).cte("gone").c.id, _there(t))


@cache
def release(schema: str, *, waits: bool) -> Executable:
    """Make messages `mids` due now, held by nobody; otherwise as `archive`.

    An unexpired lease that ends so costs no attempt.
    """
    t = tables(schema)
    m = t.messages
    given_back = case((_is_held(t), literal_column("1")), else_=literal_column("0"))
    due = (
        update(m)
        .where(m.c.id == any_(_chosen(t, waits=waits)))
        .values(
            state=READY,
            vt=func.clock_timestamp(),
            consumer_worker_id=null(),
            returned_ct=m.c.returned_ct + given_back,
        )
        .returning(m.c.id)
        .cte("due")
    )
    return asked_of(due.c.id, _there(t))


def asked_of(done: ColumnElement[int], there: ColumnElement[bool], *more: CTE) -> Executable:
    """Give (id, whether it is among the `done`, whether it was `there`) for each of `mids`.

    And do `more` beside.
    """
    asked = asked_ids()
    is_done = asked.c.mid == any_(func.array(select(done).scalar_subquery()))
    rows = select(asked.c.mid, is_done, there).select_from(asked)
    statement: Executable = rows.add_cte(*more)
    return statement


def _chosen(t: Tables, *, waits: bool) -> ColumnElement[Any]:
    m = t.messages
    rows = select(m.c.id).where(m.c.id == any_(numbers("mids", BigInteger)), _may(t))
    locked = rows.order_by(m.c.id).with_for_update(skip_locked=not waits)
    return func.array(locked.scalar_subquery())


def _there(t: Tables) -> ColumnElement[bool]:
    m = t.messages
    found = select(m.c.id).where(m.c.id == asked_ids().c.mid, _may(t)).correlate(asked_ids())
    return found.scalar_subquery().is_not(None)


def _may(t: Tables) -> ColumnElement[bool]:
    return unestimated(bindparam("force", type_=Boolean) | ~_is_held(t))


def _is_held(t: Tables) -> ColumnElement[bool]:
    m = t.messages
    return (m.c.state == LEASED) & (m.c.vt > func.clock_timestamp())


@cache
def asked_ids() -> Any:
    """Give the parameter `mids` as rows, with the column `mid`."""
    return func.unnest(numbers("mids", BigInteger)).table_valued("mid").render_derived("asked")
