"""The fence of many leases at once: (mids, rcs) of `worker`, two arrays side by side.

Each message is looked up by its id, whatever PostgreSQL expects. A join with the arrays would say
the same, but of a table that was empty when it was last vacuumed one row is expected, and then the
whole primary key is walked.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from pgqrs.models import Tables
from pgqrs.statements.arrays import numbers
from pgqrs.statements.planning import unestimated

__all__ = ["asked", "given", "mids", "of_many"]


def of_many(t: Tables) -> tuple[ColumnElement[bool], ...]:
    """Give what holds of a message whose lease is one of these, and still held."""
    m = t.messages
    held = asked()
    same = tuple_(m.c.id, m.c.read_ct).in_(select(held.c.mid, held.c.rc))
    mine = m.c.consumer_worker_id == bindparam("worker", type_=BigInteger)
    among = any_(cast(mids(), ARRAY(BigInteger)))  # as it is, it would be a subquery of ids
    return (m.c.id == among, unestimated(same), mine)


def given(t: Tables, array: ColumnElement[Any]) -> ColumnElement[Any]:
    """Give what an array beside the others has for a message; null where it is empty.

    By the id alone: of each message there may be one lease in the arrays.
    """
    place = func.array_position(mids(), t.messages.c.id)
    values = select(array).scalar_subquery()
    some: ColumnElement[bool] = func.cardinality(values) > literal_column("0")
    return case((some, values[place]))  # or the place would be looked for without need


def asked() -> Any:
    """Give the arrays as rows (mid, rc)."""
    arrays = (numbers("mids", BigInteger), numbers("rcs", Integer))
    return func.unnest(*arrays).table_valued("mid", "rc").render_derived("held")


def mids() -> Any:
    """Give the ids: as a subquery, or their text would be read again for each row."""
    return select(numbers("mids", BigInteger)).scalar_subquery()
