"""Build a statement once for each schema name: building anew costs more than a round trip."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import TypeVar

from pgqrs.models import Tables, tables

__all__ = ["per_schema"]

S = TypeVar("S")


def per_schema(build: Callable[[Tables], S]) -> Callable[[str], S]:
    """Make a function of a schema's name out of one of its tables, and keep what it gives."""

    @cache
    def built(schema: str) -> S:
        return build(tables(schema))

    return wraps(build)(built)
