"""What Alembic compares when it is pgqrs's own history that it runs: our tables and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.schema import BLANK_SCHEMA

from pgqrs.migrations.record import VERSION_TABLE
from pgqrs.models import tables

__all__ = ["comparison"]


def comparison(schema: str, default: str | None = None) -> dict[str, Any]:
    """Give what Alembic must know to compare our tables in `schema`, and no others.

    `default` is the connection's own schema, which Alembic never calls by its name.
    """
    named = None if schema == default else schema
    ours = tables(schema)
    metadata = ours.queues.metadata
    if named is None:
        metadata = MetaData(naming_convention=metadata.naming_convention)
        nameless: Any = {"schema": None, "referred_schema_fn": lambda *_: BLANK_SCHEMA}
        for table in ours:
            table.to_metadata(metadata, **nameless)
    return {
        "target_metadata": metadata,
        "include_schemas": True,
        "include_name": _only(named, {table.name for table in ours}),
        "version_table": VERSION_TABLE,
        "version_table_schema": schema,
        "compare_server_default": True,
    }


def _only(schema: str | None, names: set[str]) -> Callable[[str | None, str, Any], bool]:
    def include_name(name: str | None, kind: str, _parents: Any) -> bool:
        if kind == "schema":
            return name == schema
        return kind != "table" or name in names

    return include_name
