"""What keeps pgqrs's tables and views out of an application's `--autogenerate`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from pgqrs.migrations.record import VERSION_TABLE
from pgqrs.models import DEFAULT_SCHEMA, tables

__all__ = ["IncludeName", "IncludeObject", "include_name", "include_object"]

IncludeName: TypeAlias = Callable[[str | None, Any, Any], bool]
IncludeObject: TypeAlias = Callable[[Any, str | None, Any, bool, Any], bool]

_VIEWS: Final = ("view", "materialized_view")
_OUR_TABLE: Final = re.compile(r"pgqrs_\w+")
_OUR_VIEW: Final = re.compile(r"[qa]_[\w.:/-]+|queues|pgqrs_\w+")


def include_name(also: IncludeName | None = None, *, schema: str = DEFAULT_SCHEMA) -> IncludeName:
    """Give an `include_name` for `context.configure` that passes over pgqrs's tables in `schema`.

    Of everything else your own decides, given as `also`. Cheaper than `include_object`, as the
    tables are not even read; enough where your metadata neither has them nor refers to them.
    """

    def include(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
        if _is_ours(name, type_, parent_names.get("schema_name"), schema):
            return False
        return also is None or also(name, type_, parent_names)

    return include


def include_object(
    also: IncludeObject | None = None, *, schema: str = DEFAULT_SCHEMA
) -> IncludeObject:
    """Give an `include_object` for `context.configure` that passes over pgqrs's tables in `schema`.

    Of everything else your own decides, given as `also`.
    """

    def include(object_: Any, name: str | None, type_: str, *others: Any) -> bool:
        if _is_ours(name, type_, getattr(object_, "schema", None), schema):
            return False
        return also is None or also(object_, name, type_, *others)

    return include


def _is_ours(name: str | None, kind: str, of_schema: str | None, schema: str) -> bool:
    if name is None or of_schema not in (schema, None):
        return False
    if kind in _VIEWS:
        return of_schema == schema and bool(_OUR_VIEW.fullmatch(name.removeprefix(f"{schema}.")))
    if kind != "table":
        return False
    if of_schema is None:  # the connection's own schema, whichever that is
        return name in {VERSION_TABLE, *(table.name for table in tables(schema))}
    return bool(_OUR_TABLE.fullmatch(name))
