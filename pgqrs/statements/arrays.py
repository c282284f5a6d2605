"""Arrays of numbers as parameters: sent as text, which the driver writes ten times as fast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Text, TypeDecorator, bindparam, cast
from sqlalchemy.dialects.postgresql import ARRAY

__all__ = ["numbers"]


class _Numbers(TypeDecorator[Iterable[int]]):
    """Numbers in PostgreSQL's notation of an array."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Iterable[int] | None, dialect: Any) -> str | None:  # noqa: ARG002
        return None if value is None else "{" + ",".join(map(int.__repr__, value)) + "}"


def numbers(name: str, kind: Any) -> ColumnElement[Any]:
    """Give the parameter `name`, an iterable of integers, as an array of `kind`."""
    return cast(bindparam(name, type_=_Numbers()), ARRAY(kind))
