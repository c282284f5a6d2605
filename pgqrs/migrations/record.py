"""What the database says of how the tables came: by which door, and at which revision they are.

The revision stands in `pgqrs_version`, in the pgqrs schema. Where revisions of an application keep
the tables, a comment on that table says so. Where pgqrs's revisions are a branch of the
application's history, there is no such table, and the application's own version table has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    ColumnClause,
    Connection,
    MetaData,
    String,
    Table,
    column,
    func,
    inspect,
    select,
)
from sqlalchemy import table as sql_table
from sqlalchemy.schema import DropTableComment, SetTableComment

from pgqrs.errors import SchemaError
from pgqrs.migrations.ground import catalog, lock
from pgqrs.models import DEFAULT_SCHEMA, tables

__all__ = [
    "VERSION_TABLE",
    "Door",
    "Installed",
    "adopt",
    "check_door",
    "installed",
    "installed_revision",
    "kept_in",
]

VERSION_TABLE: Final = "pgqrs_version"
"""The name of pgqrs's own version table, which lives in the pgqrs schema."""

_KEPT: Final = "kept by revisions of the application, in "


class Door(StrEnum):
    """Who brings the tables to the next revision."""

    INSTALL = "install"
    """`pgqrs install`, or Alembic in a checkout of pgqrs."""
    REVISION = "revision"
    """Revisions of an application, each with `migrations.upgrade()`."""
    BRANCH = "branch"
    """pgqrs's own revisions, as a version location of an application."""


@dataclass(frozen=True, slots=True)
class Installed:
    """How the tables of one schema came, and where they are."""

    door: Door
    revision: str | None
    version_table: str
    """Where Alembic keeps count: pgqrs's own version table, or the application's."""

    @property
    def keeper(self) -> str:
        """Who brings them to the next revision, in words."""
        return {
            Door.INSTALL: "`pgqrs install`",
            Door.REVISION: f"revisions of the application ({self.version_table})",
            Door.BRANCH: f"a branch of the application's history ({self.version_table})",
        }[self.door]


def installed_revision(connection: Connection, schema: str = DEFAULT_SCHEMA) -> str | None:
    """Give the revision the tables in `schema` are at, or None where there is none."""
    found = installed(connection, schema)
    return found.revision if found else None


def installed(connection: Connection, schema: str = DEFAULT_SCHEMA) -> Installed | None:
    """Say how the tables in `schema` came; None where no record of it is found."""
    look = inspect(connection)
    if not look.has_table(VERSION_TABLE, schema=schema):
        there = look.has_table(tables(schema).queues.name, schema=schema)
        # A branch knows no schema but the default one.
        return _branch(connection) if there and schema == DEFAULT_SCHEMA else None
    options = {"version_table": VERSION_TABLE, "version_table_schema": schema}
    revision = MigrationContext.configure(connection, opts=options).get_current_revision()
    comment = look.get_table_comment(VERSION_TABLE, schema=schema)["text"] or ""
    if comment.startswith(_KEPT):
        return Installed(Door.REVISION, revision, comment.removeprefix(_KEPT))
    return Installed(Door.INSTALL, revision, f"{schema}.{VERSION_TABLE}")


def check_door(connection: Connection, schema: str, door: Door) -> None:
    """Raise SchemaError where the tables in `schema` came by another door than this one."""
    found = installed(connection, schema)
    if found and found.door != door:
        raise SchemaError(_refusal(found, schema))


def adopt(
    connection: Connection,
    schema: str = DEFAULT_SCHEMA,
    *,
    version_table: str = "alembic_version",
    undo: bool = False,
) -> None:
    """Hand tables made by `pgqrs install` to revisions of an application; `undo` hands them back.

    Nothing but the record changes. `version_table` is the application's. Raises SchemaError where
    there are none, or they came in another way.
    """
    lock(connection, schema)
    found = installed(connection, schema)
    if found is None or found.revision is None:
        raise SchemaError(f"there are no pgqrs tables in schema {schema!r} to hand over")
    if found.door not in (Door.INSTALL, Door.REVISION):
        raise SchemaError(_refusal(found, schema))
    comment = None if undo else kept_in(version_table)
    table = Table(VERSION_TABLE, MetaData(), schema=schema, comment=comment)
    connection.execute(DropTableComment(table) if undo else SetTableComment(table))


def kept_in(version_table: str) -> str:
    """Give the comment of `pgqrs_version` where revisions of an application keep the tables."""
    return _KEPT + version_table


def _refusal(found: Installed, schema: str) -> str:
    command = f"pgqrs --schema {schema} alembic adopt"
    if found.revision is None:
        way_out = f"run `pgqrs --schema {schema} uninstall`, which drops it"
        return f"there are no pgqrs tables, but {found.version_table} is there: {way_out}"
    if found.door is Door.INSTALL:
        way_out = (
            "leave migrations.upgrade() out of your revisions, or hand the tables to them"
            f" with `{command}`"
        )
    elif found.door is Door.REVISION:
        way_out = (
            "write a revision with migrations.upgrade() or migrations.downgrade(), or take the"
            f" tables back with `{command} --undo`"
        )
    else:
        way_out = "run `alembic upgrade pgqrs@head` or `alembic downgrade pgqrs@base` there"
    return (
        f"the pgqrs tables in schema {schema!r} are kept by {found.keeper}, at revision"
        f" {found.revision}: {way_out}"
    )


def _branch(connection: Connection) -> Installed | None:
    """Look for a revision of ours in whatever could be a version table of an application."""
    relations = catalog("pg_class", "oid", "relname", "relnamespace", "relkind")
    namespaces = catalog("pg_namespace", "oid", "nspname")
    attributes = catalog("pg_attribute", "attrelid", "attname", "atttypid")
    candidates = (
        select(namespaces.c.nspname, relations.c.relname)
        .join_from(relations, namespaces, namespaces.c.oid == relations.c.relnamespace)
        .join(attributes, attributes.c.attrelid == relations.c.oid)
        .where(attributes.c.attname == "version_num", relations.c.relkind == "r")
        .where(attributes.c.atttypid == func.to_regtype("varchar"))
        .where(func.has_schema_privilege(namespaces.c.oid, "USAGE"))
        .where(func.has_table_privilege(relations.c.oid, "SELECT"))
        .order_by(namespaces.c.nspname, relations.c.relname)
    )
    for schema, name in connection.execute(candidates).all():
        number: ColumnClause[str] = column("version_num", String)
        versions = select(number).select_from(sql_table(name, number, schema=schema))
        found = connection.scalar(versions.where(number.like(r"pgqrs\_%")).limit(1))
        if found is not None and name != VERSION_TABLE:
            return Installed(Door.BRANCH, found, f"{schema}.{name}")
    return None
