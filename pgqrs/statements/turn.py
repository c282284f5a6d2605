"""A turn of a running worker: finish what is done and lease the next, in one commit."""

from __future__ import annotations

from sqlalchemy import BigInteger, Executable, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from pgqrs.models import Tables
from pgqrs.statements.acknowledge import kept, mode_of
from pgqrs.statements.lease import leasing
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.settle import finished

__all__ = ["finish_and_lease"]


@per_schema
def finish_and_lease(t: Tables) -> Executable:
    """Do what `finish_many` and `lease` do; parameters and rows are those of both.

    Each row ends with how many of the messages were held. What is finished here is not leased
    here, although its lease may have run out: both see the table as it was before.
    """
    gone = finished(t)
    held = select(func.count()).select_from(gone).scalar_subquery()
    rows = leasing(t, held, spares=bindparam("mids", type_=ARRAY(BigInteger)))
    statement: Executable = rows.add_cte(kept(t, gone, mode_of(t, gone)))
    return statement
