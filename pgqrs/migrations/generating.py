"""What `--autogenerate` and `alembic check` are told of pgqrs: no tables, and the missing line."""

from __future__ import annotations

import logging
from typing import Any, Final

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import MigrateOperation, UpgradeOps
from sqlalchemy import Connection, inspect

from pgqrs.config import validated_schema
from pgqrs.migrations.filters import include_object
from pgqrs.migrations.record import Door, installed
from pgqrs.migrations.revision import downgrade_line, upgrade_line
from pgqrs.migrations.scripts import head, history
from pgqrs.models import DEFAULT_SCHEMA, tables

__all__ = ["DowngradeLine", "UpgradeLine", "add_lines", "pass_over"]

_log: Final = logging.getLogger("pgqrs.autogenerate")


class UpgradeLine(MigrateOperation):
    """A line in `upgrade()` that brings pgqrs's tables to another revision."""

    def __init__(self, from_: str | None, to: str, schema: str) -> None:
        self.from_ = from_
        self.to = to
        self.schema = schema

    def reverse(self) -> DowngradeLine:
        """Give the line for `downgrade()`."""
        return DowngradeLine(self.to, self.from_, self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Give what `alembic check` prints."""
        return ("pgqrs_upgrade", self.from_, self.to, self.schema)


class DowngradeLine(MigrateOperation):
    """A line in `downgrade()` that takes pgqrs's tables back."""

    def __init__(self, from_: str, to: str | None, schema: str) -> None:
        self.from_ = from_
        self.to = to
        self.schema = schema

    def reverse(self) -> UpgradeLine:
        """Give the line for `upgrade()`."""
        return UpgradeLine(self.to, self.from_, self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Give what would be printed of it."""
        return ("pgqrs_downgrade", self.from_, self.to, self.schema)


@renderers.dispatch_for(UpgradeLine)
def _upgrade(context: AutogenContext, line: UpgradeLine) -> str:
    context.imports.add("from pgqrs import migrations")
    return upgrade_line(line.from_, line.to, line.schema)


@renderers.dispatch_for(DowngradeLine)
def _downgrade(context: AutogenContext, line: DowngradeLine) -> str:
    context.imports.add("from pgqrs import migrations")
    return downgrade_line(line.from_, line.to, line.schema)


def pass_over(context: AutogenContext) -> None:
    """Leave pgqrs's tables and views out of this comparison, on both sides."""
    for schema in _schemas(context):
        passing = include_object(schema=schema)
        context._object_filters.append(passing)  # noqa: SLF001 - there is no other way in


def add_lines(context: AutogenContext, upgrade_ops: UpgradeOps) -> None:
    """Write a line first of all, where this pgqrs is ahead of what revisions have brought."""
    connection = context.connection
    assert connection is not None  # noqa: S101 - Alembic compares with nothing else
    missing = [_missing(connection, schema) for schema in _schemas(context)]
    upgrade_ops.ops[:0] = [line for line in missing if line]


def _missing(connection: Connection, schema: str) -> UpgradeLine | None:
    found, wanted = installed(connection, schema), head()
    if found is None:
        if not inspect(connection).has_table(tables(schema).queues.name, schema=schema):
            return UpgradeLine(None, wanted, schema)
        _log.warning("pgqrs's tables in schema %s have no record of how they came", schema)
    elif found.door is not Door.REVISION:
        _log.info("pgqrs's tables in schema %s are kept by %s", schema, found.door)
    elif found.revision not in {script.revision for script in history()}:
        _log.warning("this pgqrs does not know revision %s: upgrade it", found.revision)
    elif found.revision != wanted:
        return UpgradeLine(found.revision, wanted, schema)
    return None


def _schemas(context: AutogenContext) -> list[str]:
    given = context.opts.get("pgqrs_schema", DEFAULT_SCHEMA)
    return [validated_schema(name) for name in ([given] if isinstance(given, str) else given)]
