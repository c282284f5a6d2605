"""A turn of a running worker: finish what is done and lease the next, in one commit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    case,
    func,
    literal_column,
    select,
)

from pgqrs.models import Tables
from pgqrs.statements.acknowledge import kept, terms_of
from pgqrs.statements.arrays import numbers
from pgqrs.statements.lease import leasing
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.settle import finished

__all__ = ["finish_and_lease", "finish_and_lease_above"]


_NONE: ColumnElement[Any] = literal_column("'{}'::bigint[]")


@per_schema
def finish_and_lease(t: Tables) -> Executable:
    """Do what `finish_many` and `lease` do; parameters and rows are those of both.

    Each row ends with the ids of the messages that were held, or null for all of them. What is
    finished here is not leased here, although its lease may have run out: both see the table as it
    was before. None may be finished as dead.
    """
    return _turn(t)


@per_schema
def finish_and_lease_above(t: Tables) -> Executable:
    """Do what `finish_many` and `lease_above` do, likewise."""
    return _turn(t, bounded=True)


def _turn(t: Tables, *, bounded: bool = False) -> Executable:
    gone = finished(t)
    mids = numbers("mids", BigInteger)
    some = case((func.count() < func.cardinality(mids), func.array_agg(gone.c.id)))
    held = select(func.coalesce(some, case((func.count() == 0, _NONE)))).select_from(gone)
    spares = select(func.unnest(mids))
    rows = leasing(t, held.scalar_subquery(), spares=spares, after=gone, bounded=bounded)
    statement: Executable = rows.add_cte(*kept(t, gone, terms_of(t, gone)))
    return statement
