"""Say conditions so that PostgreSQL finds rows by the head of one index, whatever it knows.

Statistics may be missing or old, and a generic plan knows no values: a guess must not matter.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    false,
    func,
    literal_column,
    select,
)

__all__ = ["counted", "in_order", "unestimated"]


def unestimated(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Ask for `condition` in a form of which nearly every row is expected to pass.

    With a guess of a third, a handful of expected rows becomes one. To find one row, LIMIT makes
    nothing cheaper, and then reading and sorting all rows of a state seems as good as the head of
    its index.
    """
    return func.nullif(condition, false()).is_not(None)


def in_order(
    rows: Select[Any], *order: ColumnElement[Any], limit: ColumnElement[int] | None = None
) -> Select[Any]:
    """Read rows in the order of their index, up to `limit` (null or none: all of them).

    Without an order PostgreSQL may look for them from the start of the table, past all others;
    without a limit that it cannot know beforehand it may do so and sort.
    """
    most = literal_column("null::bigint", BigInteger) if limit is None else limit
    return rows.order_by(*order).limit(select(most).scalar_subquery())


def counted(
    order: list[Any],
    *where: ColumnElement[bool],
    limit: ColumnElement[int] | None = None,
    outer: FromClause | None = None,
) -> ColumnElement[int]:
    """Count rows `in_order`, up to `limit`.

    `outer` is the table of the enclosing statement that `where` refers to.
    """
    rows = in_order(select(literal_column("1")).where(*where), *order, limit=limit)
    if outer is None:
        return select(func.count()).select_from(rows.subquery()).scalar_subquery()
    found = rows.correlate(outer).subquery()
    return select(func.count()).select_from(found).correlate(outer).scalar_subquery()
