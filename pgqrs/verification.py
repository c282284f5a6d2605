"""Compare the tables in the database with what this version of pgqrs needs; changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, column, func, inspect, select
from sqlalchemy import table as sql_table

from pgqrs.migrations import VERSION_TABLE, head, installed_revision, only_ours, script_location
from pgqrs.models import tables
from pgqrs.types import Finding

__all__ = ["verify"]

_INSTALL: Final = "pgqrs install"


def verify(connection: Connection, schema: str) -> list[Finding]:
    """Say what is missing or different in `schema`, with what mends it; an empty list is good."""
    version = int(connection.dialect.server_version_info[0])  # type: ignore[index]
    findings = []
    if version < 14:
        message = f"the server is PostgreSQL {version}, and pgqrs needs 14 or newer"
        findings.append(Finding("error", message, "upgrade the server"))
    return findings + (_of_revision(connection, schema) or list(_of_tables(connection, schema)))


def _of_revision(connection: Connection, schema: str) -> list[Finding]:
    installed, wanted = installed_revision(connection, schema), head()
    if installed == wanted:
        return []
    if installed is None:
        message = f"there are no pgqrs tables in schema {schema!r}"
        return [Finding("error", message, _INSTALL)]
    known = {script.revision for script in ScriptDirectory(str(script_location())).walk_revisions()}
    if installed in known:
        message = f"the tables are at revision {installed}, and this pgqrs needs {wanted}"
        return [Finding("error", message, _INSTALL)]
    message = f"the tables are at revision {installed}, which this pgqrs does not know"
    return [Finding("error", message, "upgrade the pgqrs package")]


def _of_tables(connection: Connection, schema: str) -> Iterator[Finding]:
    options = {
        "include_schemas": True,
        "include_name": only_ours(schema),
        "version_table": VERSION_TABLE,
        "version_table_schema": schema,
        "compare_server_default": True,
    }
    context = MigrationContext.configure(connection, opts=options)
    for change in compare_metadata(context, tables(schema).queues.metadata):
        yield from _of_change(change, schema)
    for table in tables(schema):
        if inspect(connection).has_table(table.name, schema=schema):
            yield from _of_details(connection, table)


def _of_change(change: Any, schema: str) -> Iterator[Finding]:
    if isinstance(change, list):  # several differences of one column
        for one in change:
            yield from _of_change(one, schema)
        return
    kind, subject = change[0], change[-1]
    if kind.startswith("modify_"):
        _, _, table, column = change[:4]
        what = kind.removeprefix("modify_").replace("_", " ")
        message = f"column {table}.{column}: {what} is {change[-2]}, and should be {change[-1]}"
        yield Finding("error", message, _restore(schema))
    elif kind == "add_fk":
        message = f"foreign key {subject.name} is missing: nothing keeps the rows consistent"
        yield Finding("warning", message, f"ALTER TABLE … ADD CONSTRAINT {subject.name} …")
    elif kind.startswith("add_"):
        yield Finding("error", f"{_named(kind, subject)} is missing", _restore(schema))
    elif kind.startswith("remove_"):
        message = f"{_named(kind, subject)} is not pgqrs's"
        yield Finding("warning", message, "drop it, if you did not add it on purpose")


def _named(kind: str, subject: Any) -> str:
    table = getattr(subject, "table", None)
    owner = f"{table.name}." if kind.endswith("column") and table is not None else ""
    return f"{kind.rpartition('_')[2]} {owner}{subject.name}"


def _of_details(connection: Connection, table: Table) -> Iterator[Finding]:
    look = inspect(connection)
    schema = str(table.schema)
    found = {index["name"]: index for index in look.get_indexes(table.name, schema=schema)}
    for index in table.indexes:
        wanted = index.dialect_options["postgresql"]["where"]
        present_index: Any = found.get(index.name, {})
        options: Any = present_index.get("dialect_options", {})
        where = options.get("postgresql_where")
        if index.name in found and _plain(where) != _plain(wanted):
            message = f"index {index.name} covers {where}, and should cover {wanted}"
            yield Finding("error", message, _restore(schema))
    present = {check["name"] for check in look.get_check_constraints(table.name, schema=schema)}
    for constraint in table.constraints:
        if constraint.__visit_name__ == "check_constraint" and constraint.name not in present:
            message = f"check constraint {constraint.name} is missing"
            yield Finding("warning", message, _restore(schema))
    storage = _storage(connection, table)
    for name, value in table.info.get("storage", {}).items():
        if storage.get(name) != value:
            message = f"storage parameter {name} of {table.name} is {storage.get(name)}"
            remedy = f'ALTER TABLE "{schema}".{table.name} SET ({name} = {value})'
            yield Finding("warning", f"{message}, and should be {value}", remedy)


def _storage(connection: Connection, table: Table) -> dict[str, str]:
    classes = sql_table("pg_class", column("oid"), column("reloptions"), schema="pg_catalog")
    name = func.to_regclass(f'"{table.schema}".{table.name}')
    options = connection.scalar(select(classes.c.reloptions).where(classes.c.oid == name))
    return dict(option.split("=", 1) for option in options or ())


def _plain(predicate: Any) -> str:
    return (
        re.sub(r"::\w+|[()\s]", "", "" if predicate is None else str(predicate))
        .lower()
        .replace("!=", "<>")
    )


def _restore(schema: str) -> str:
    return f"restore it, as `pgqrs install --schema {schema} --dry-run` prints it"
