"""Install, upgrade and remove the schema through Alembic: the scripts own it, this runs them.

Not for queues and messages: it creates and drops tables and nothing else.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    Table,
    TableClause,
    column,
    func,
    inspect,
    select,
)
from sqlalchemy import table as sql_table
from sqlalchemy.schema import BLANK_SCHEMA, CreateSchema, DropSchema, DropTable

from pgqrs.config import validated_schema
from pgqrs.errors import SchemaError
from pgqrs.models import DEFAULT_SCHEMA, tables
from pgqrs.translation import translated

__all__ = [
    "VERSION_TABLE",
    "comparison",
    "head",
    "install",
    "installed_revision",
    "lock",
    "make_schema",
    "script_location",
    "uninstall",
]

VERSION_TABLE: Final = "pgqrs_version"
"""The name of pgqrs's own version table, which lives in the pgqrs schema."""

_ALEMBIC_IS_GLOBAL: Final = threading.Lock()  # its context is one per process
_LOCK_CLASS: Final = 1_885_827_442  # the bytes of "pgqr"


def script_location() -> Path:
    """Give the folder of the revision files: inside the wheel, or beside an editable install."""
    package = Path(__file__).resolve().parent
    for folder in (package / "_alembic", package.parent / "alembic"):
        if (folder / "versions").is_dir():
            return folder
    raise SchemaError(
        "pgqrs's migration scripts are missing from this installation: reinstall pgqrs"
    )


def head() -> str:
    """Give the newest revision that this version of pgqrs knows."""
    newest = ScriptDirectory(str(script_location())).get_current_head()
    if newest is None:
        raise SchemaError("pgqrs's migration scripts hold no revision: reinstall pgqrs")
    return newest


def installed_revision(connection: Connection, schema: str = DEFAULT_SCHEMA) -> str | None:
    """Give the revision the tables in `schema` are at, or None where there is none."""
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    options = {"version_table": VERSION_TABLE, "version_table_schema": schema}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def install(engine: Engine, schema: str = DEFAULT_SCHEMA, *, dry_run: bool = False) -> str:
    """Bring the tables in `schema` to the newest revision; give the SQL when `dry_run`.

    Safe to run again, and from several processes at once: one transaction behind one lock.
    """
    validated_schema(schema)
    if dry_run:
        printed = io.StringIO()
        with _ALEMBIC_IS_GLOBAL:
            command.upgrade(_alembic(printed, schema=schema), "head", sql=True)
        return printed.getvalue()
    with translated(schema), _transactional(engine) as connection, _ALEMBIC_IS_GLOBAL:
        command.upgrade(_alembic(io.StringIO(), schema=schema, connection=connection), "head")
    return ""


def uninstall(engine: Engine, schema: str = DEFAULT_SCHEMA, *, dry_run: bool = False) -> str:
    """Drop pgqrs's tables in `schema` by name, and the schema if then empty; never CASCADE.

    Gives the SQL, which `dry_run` does not execute. Where nothing is installed it does nothing.
    Raises DatabaseError where other objects depend on the tables.
    """
    validated_schema(schema)
    done: list[str] = []
    with translated(schema), _transactional(engine) as connection, connection.begin():
        lock(connection, schema)
        present = set(inspect(connection).get_table_names(schema=schema))
        ours = [table for table in reversed(_all_tables(schema)) if table.name in present]
        drops: list[Any] = [DropTable(table) for table in ours]
        if _only_these_in(connection, schema, {table.name for table in ours}):
            drops.append(DropSchema(schema))
        for statement in drops:
            done.append(str(statement.compile(engine)).strip() + ";")
            if not dry_run:
                connection.execute(statement)
    return "\n".join(done) + "\n" if done else ""


def lock(connection: Connection, schema: str) -> None:
    """Wait for our turn to change `schema`; held until the transaction ends."""
    key = func.hashtext(schema)
    connection.execute(select(func.pg_advisory_xact_lock(_LOCK_CLASS, key)))


def make_schema(connection: Connection, schema: str) -> None:
    """Make the schema if it is not there.

    Looks first: CREATE SCHEMA IF NOT EXISTS needs rights on the database even when it exists.
    """
    if not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema))


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


def _alembic(output: io.StringIO, **handed_over: Any) -> AlembicConfig:
    config = AlembicConfig(output_buffer=output, stdout=output)
    # A percent sign in the path would be taken for an interpolation.
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(handed_over)
    return config


def _all_tables(schema: str) -> list[Table]:
    return [Table(VERSION_TABLE, MetaData(), schema=schema), *tables(schema)]


def _only_these_in(connection: Connection, schema: str, ours: set[str]) -> bool:
    """Say whether nothing in `schema` but these tables would keep it from being dropped."""
    if schema == "public" or not inspect(connection).has_schema(schema):
        return False
    depend = _catalog("pg_depend", "objid", "refclassid", "refobjid", "deptype")
    relations = _catalog("pg_class", "oid", "relname", "relnamespace")
    of_schema = func.to_regnamespace(func.quote_ident(schema))
    mine = select(relations.c.oid).where(
        relations.c.relnamespace == of_schema, relations.c.relname.in_(ours)
    )
    sequence = depend.alias("sequence")
    their_sequences = select(sequence.c.objid).where(
        sequence.c.refobjid.in_(mine), sequence.c.deptype == "i"
    )
    others = select(func.count()).where(
        depend.c.refclassid == func.to_regclass("pg_catalog.pg_namespace"),
        depend.c.refobjid == of_schema,
        depend.c.objid.not_in(mine),
        depend.c.objid.not_in(their_sequences),
    )
    return connection.scalar(others) == 0


def _catalog(name: str, *columns: str) -> TableClause:
    return sql_table(name, *(column(each) for each in columns), schema="pg_catalog")


@contextmanager
def _transactional(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="READ COMMITTED")
