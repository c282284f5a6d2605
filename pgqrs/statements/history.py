"""Read a queue's archive from one end to the other, and erase from it; both by its primary key."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Text,
    any_,
    bindparam,
    cast,
    delete,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import Tables, tables
from pgqrs.statements.arrays import numbers
from pgqrs.statements.columns import ARCHIVED, as_sent
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["after", "erase", "erase_matching"]


@cache
def after(schema: str, *, by_status: bool) -> Executable:
    """Give `n` archived messages of `queue` (its id) with ids above `after`, by id.

    Of one `status` or of any.
    """
    a = tables(schema).archive
    rows = select(*as_sent(a, ARCHIVED)).where(*_behind(a))
    if by_status:
        rows = rows.where(unestimated(a.c.status == bindparam("status", type_=Text)))
    statement: Executable = rows.order_by(a.c.queue_id, a.c.id).limit(_n())
    return statement


@per_schema
def erase(t: Tables) -> Executable:
    """Delete the archived messages `mids` of `queue` (its id); gives the ids of those there were.

    Waits for whoever is just changing one: nothing may be left.
    """
    a = t.archive
    statement: Executable = _erased(t, a.c.id == any_(numbers("mids", BigInteger))).returning(
        a.c.id
    )
    return statement


@per_schema
def erase_matching(t: Tables) -> Executable:
    """Walk the next `n` archived messages of `queue` behind `after`; delete those that match.

    A payload matches that contains `part` (JSON text). Gives (how many were deleted, the last id
    walked over); no id: the end. Waits as `erase` does.
    """
    a = t.archive
    part = cast(bindparam("part", type_=Text), JSONB)
    matches = a.c.payload.op("@>")(part).label("matches")
    walked = select(a.c.id, matches).where(*_behind(a)).order_by(a.c.id).limit(_n()).cte("walked")
    found = select(walked.c.id).where(walked.c.matches).scalar_subquery()
    gone = _erased(t, a.c.id == any_(func.array(found))).returning(a.c.id).cte("gone")
    count = select(func.count()).select_from(gone).scalar_subquery()
    return select(count, func.max(walked.c.id)).select_from(walked)


def _erased(t: Tables, those: ColumnElement[bool]) -> Any:
    a = t.archive
    here = a.c.queue_id == _queue()
    # In one order, so that two of these cannot wait for each other.
    locked = select(a.c.id).where(here, those).order_by(a.c.id).with_for_update()
    return delete(a).where(here, a.c.id == any_(func.array(locked.scalar_subquery())))


def _behind(archive: Any) -> tuple[ColumnElement[bool], ...]:
    after = bindparam("after", type_=BigInteger)
    return archive.c.queue_id == _queue(), archive.c.id > after


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _n() -> ColumnElement[int]:
    return select(bindparam("n", type_=BigInteger)).scalar_subquery()
