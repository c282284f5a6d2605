"""Compare the tables in the database with what this version of pgqrs needs; changes nothing.

Alembic finds the differences that it would migrate; predicates, checks, primary keys and storage
parameters are looked at here. A difference is told with the SQL that mends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Identity,
    Index,
    Table,
    column,
    func,
    inspect,
    select,
)
from sqlalchemy import table as sql_table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateColumn, CreateIndex, DropIndex

from pgqrs.migrations import (
    Door,
    Installed,
    comparison,
    head,
    history,
    installed,
    is_newer,
    upgrade_line,
)
from pgqrs.models import tables
from pgqrs.types import Finding

__all__ = ["verify"]


def verify(connection: Connection, schema: str) -> list[Finding]:
    """Say what is missing or different in `schema`, with what mends it; an empty list is good."""
    version = int(connection.dialect.server_version_info[0])  # type: ignore[index]
    findings = []
    if version < 14:
        message = f"the server is PostgreSQL {version}, and pgqrs needs 14 or newer"
        findings.append(Finding("error", message, "upgrade the server"))
    return findings + (_of_revision(connection, schema) or list(_of_tables(connection, schema)))


def _of_revision(connection: Connection, schema: str) -> list[Finding]:
    found, wanted = installed(connection, schema), head()
    if found is None:
        # Whoever made the tables without a record of it may still have made them well.
        if inspect(connection).has_table(tables(schema).queues.name, schema=schema):
            return []
        message = f"there are no pgqrs tables in schema {schema!r}"
        return [Finding("error", message, _install(schema))]
    if found.revision == wanted:
        return []
    if found.revision in {None, *(script.revision for script in history())}:
        message = f"the tables are at revision {found.revision}, and this pgqrs needs {wanted}"
        return [Finding("error", message, _upgrade(found, wanted, schema))]
    message = f"the tables are at revision {found.revision}, which this pgqrs does not know"
    remedy = "upgrade the pgqrs package"
    if not is_newer(found.revision):
        return [Finding("error", message, remedy)]
    message = f"the tables are at revision {found.revision}, newer than {wanted} of this pgqrs"
    # What it does not know was added on purpose.
    lacking = [each for each in _of_tables(connection, schema) if each.severity == "error"]
    return [Finding("warning", message, f"{remedy}; until then it goes on working"), *lacking]


def _upgrade(found: Installed, wanted: str, schema: str) -> str:
    if found.door is Door.INSTALL:
        return _install(schema)
    if found.door is Door.BRANCH:
        return "alembic upgrade pgqrs@head, in the application"
    line = upgrade_line(found.revision, wanted, schema)
    return f"write a revision of the application with {line}, and run alembic upgrade head"


def _of_tables(connection: Connection, schema: str) -> Iterator[Finding]:
    options = comparison(schema, connection.dialect.default_schema_name)
    context = MigrationContext.configure(connection, opts=options)
    ours = {table.name: table for table in tables(schema)}
    changes: list[Any] = []
    for change in compare_metadata(context, options["target_metadata"]):
        changes += change if isinstance(change, list) else [change]  # several of one column
    absent = {change[1].name for change in changes if change[0] == "add_table"}
    replaced = {change[1].name for change in changes if change[0] == "add_index"}
    replaced &= {change[1].name for change in changes if change[0] == "remove_index"}
    for change in changes:
        yield from _of_change(change, ours, absent, replaced)
    for name, table in ours.items():
        if name not in absent:
            yield from _of_indexes(connection, table)
            yield from _of_constraints(connection, table)
            yield from _of_storage(connection, table)


def _of_change(
    change: Any, ours: dict[str, Table], absent: set[str], replaced: set[str]
) -> Iterator[Finding]:
    kind, subject = change[0], change[-1]
    if kind == "add_table":
        schema = str(ours[subject.name].schema)
        yield Finding("error", f"table {subject.name} is missing", _print(schema))
    elif kind == "add_column":
        yield _without_column(ours[change[2]].c[subject.name])
    elif kind.startswith("modify_"):
        yield _changed_column(ours[change[2]].c[change[3]], kind[7:], change[-2])
    elif kind == "remove_column":
        yield _strange(f"column {change[2]}.{subject.name}")
    elif kind.startswith("remove_") and subject.name not in replaced:
        yield _strange(f"{kind[7:].replace('fk', 'foreign key')} {subject.name}")
    elif kind.startswith("add_") and subject.table.name not in absent:
        table = ours[subject.table.name]
        if kind == "add_index":
            index = next(each for each in table.indexes if each.name == subject.name)
            yield _without_index(index, replaced=subject.name in replaced)
        else:
            yield _without_constraint(table, subject.name)


def _strange(what: str) -> Finding:
    remedy = "drop it, if you did not add it on purpose"
    return Finding("warning", f"{what} is not pgqrs's", remedy)


def _without_column(wanted: Column[Any]) -> Finding:
    remedy = f"ALTER TABLE {_full(wanted.table)} ADD COLUMN {_sql(CreateColumn(wanted))}"
    return Finding("error", f"column {wanted.table.name}.{wanted.name} is missing", remedy)


def _changed_column(wanted: Column[Any], what: str, found: Any) -> Finding:
    named = f"column {wanted.table.name}.{wanted.name}"
    if what == "nullable":
        may, change = ("may", "SET NOT NULL") if found else ("may not", "DROP NOT NULL")
        message = f"{named} {may} be null, and {'should not' if found else 'should'}"
    elif what == "type":
        kind, other = wanted.type.compile(_DIALECT), found.compile(_DIALECT)
        message, change = f"{named} is {other}, and should be {kind}", f"TYPE {kind}"
    else:
        default = _default(wanted.server_default)
        message = f"the default of {named} is {_default(found)}, and should be {default}"
        change = f"SET DEFAULT {default}" if default != "none" else "DROP DEFAULT"
        if isinstance(wanted.server_default, Identity):
            change = "ADD GENERATED BY DEFAULT AS IDENTITY"
    remedy = f"ALTER TABLE {_full(wanted.table)} ALTER COLUMN {wanted.name} {change}"
    return Finding("error", message, remedy)


def _default(clause: Any) -> str:
    if clause is None:
        return "none"
    return "an identity" if isinstance(clause, Identity) else str(clause.arg)


def _without_index(wanted: Index, *, replaced: bool) -> Finding:
    create = _sql(CreateIndex(wanted))
    if not replaced:
        return Finding("error", f"index {wanted.name} is missing", create)
    message = f"index {wanted.name} is not on the columns it should be on, or not unique"
    return Finding("error", message, f"{_drop(wanted)}; {create}")


def _without_constraint(table: Table, name: str) -> Finding:
    wanted = next(each for each in table.constraints if each.name == name)
    remedy = _sql(AddConstraint(wanted))
    kind = type(wanted).__name__.removesuffix("Constraint")
    if kind == "ForeignKey":
        message = f"foreign key {name} is missing: nothing keeps the rows consistent"
        return Finding("warning", message, remedy)
    severity = "warning" if kind == "Check" else "error"
    words = {"Check": "check", "Unique": "unique constraint", "PrimaryKey": "primary key"}
    return Finding(severity, f"{words[kind]} {name} is missing", remedy)


def _of_indexes(connection: Connection, table: Table) -> Iterator[Finding]:
    present: Any = inspect(connection).get_indexes(table.name, schema=table.schema)
    found = {index["name"]: index.get("dialect_options", {}) for index in present}
    for index in table.indexes:
        wanted = index.dialect_options["postgresql"]["where"]
        if index.name not in found:
            continue
        where = found[index.name].get("postgresql_where")
        if _plain(where) != _plain(wanted):
            covers = f"covers {where or 'all rows'}, and should cover {_words(wanted)}"
            remedy = f"{_drop(index)}; {_sql(CreateIndex(index))}"
            yield Finding("error", f"index {index.name} {covers}", remedy)


def _of_constraints(connection: Connection, table: Table) -> Iterator[Finding]:
    look = inspect(connection)
    checks = look.get_check_constraints(table.name, schema=table.schema)
    present = {check["name"] for check in checks}
    for constraint in table.constraints:
        if isinstance(constraint, CheckConstraint) and constraint.name not in present:
            yield _without_constraint(table, str(constraint.name))
    key = look.get_pk_constraint(table.name, schema=table.schema)
    if not key["constrained_columns"]:
        yield _without_constraint(table, str(table.primary_key.name))


def _of_storage(connection: Connection, table: Table) -> Iterator[Finding]:
    classes = sql_table("pg_class", column("oid"), column("reloptions"), schema="pg_catalog")
    where = classes.c.oid == func.to_regclass(_full(table))
    options = connection.scalar(select(classes.c.reloptions).where(where)) or ()
    stored = dict(option.split("=", 1) for option in options)
    for name, value in table.info.get("storage", {}).items():
        found = stored.get(name, "not set")
        if found != value:
            message = f"storage parameter {name} of {table.name} is {found}, and should be {value}"
            yield Finding("warning", message, f"ALTER TABLE {_full(table)} SET ({name} = {value})")


_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


def _sql(statement: Any) -> str:
    return re.sub(r"\s+", " ", str(statement.compile(dialect=_DIALECT))).strip()


def _full(table: Table) -> str:
    return str(_DIALECT.identifier_preparer.format_table(table))


def _drop(index: Index) -> str:
    return _sql(DropIndex(index))


def _words(predicate: Any) -> str:
    return "all rows" if predicate is None else str(predicate)


def _plain(predicate: Any) -> str:
    words = re.sub(r"::\w+|[()\s]", "", "" if predicate is None else str(predicate))
    return words.lower().replace("!=", "<>")


def _install(schema: str) -> str:
    return f"pgqrs --schema {schema} install"


def _print(schema: str) -> str:
    return f"restore it from a backup, or make it as `{_install(schema)} --dry-run` prints it"
