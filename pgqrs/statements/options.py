"""Read what a message was given beside its payload: an object of JSON, or null for most."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, Interval, Text, cast, literal_column

__all__ = ["option", "seconds"]

_SECOND: ColumnElement[Any] = literal_column("interval '1 second'")


def option(source: FromClause, name: str, kind: Any) -> ColumnElement[Any]:
    """Give the option `name` of the messages of `source`, or null."""
    text = source.c.options.op("->>", return_type=Text())(literal_column(f"'{name}'", Text))
    return text if kind is Text else cast(text, kind)


def seconds(number: ColumnElement[float]) -> ColumnElement[Any]:
    """Give a number of seconds as an interval."""
    return number.op("*", precedence=8, return_type=Interval())(_SECOND)
