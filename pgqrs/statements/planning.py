"""Say conditions so that PostgreSQL finds rows by the head of one index, whatever it knows.

Statistics may be missing or old, and a generic plan knows no values: a guess must not matter.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, false, func

__all__ = ["by_its_index", "unestimated"]


def unestimated(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Ask for `condition` in a form of which nearly every row is expected to pass.

    With a guess of a third, a handful of expected rows becomes one. To find one row, LIMIT makes
    nothing cheaper, and then reading and sorting all rows of a state seems as good as the head of
    its index.
    """
    return func.nullif(condition, false()).is_not(None)


def by_its_index(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """Ask for `column = value` where the rows are ordered by `column` and what follows it.

    After an equality the order would not need `column`, and the primary key, read past the rows of
    all others, could serve it too.
    """
    return column.between(value, value)
