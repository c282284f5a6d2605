"""Install and remove the schema by running pgqrs's own history: the door of `pgqrs install`."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, MetaData, Table, inspect
from sqlalchemy.schema import DropSchema, DropTable

from pgqrs.config import validated_schema
from pgqrs.migrations.ground import is_free, lock
from pgqrs.migrations.record import VERSION_TABLE, Door, check_door, installed_revision
from pgqrs.migrations.scripts import is_newer, script_location
from pgqrs.models import DEFAULT_SCHEMA, tables
from pgqrs.operations import views
from pgqrs.statements import views as view_sql
from pgqrs.translation import translated

__all__ = ["install", "uninstall"]

_ALEMBIC_IS_GLOBAL: Final = threading.Lock()  # its context is one per process


def install(engine: Engine, schema: str = DEFAULT_SCHEMA, *, dry_run: bool = False) -> str:
    """Bring the tables in `schema` to the newest revision; give the SQL when `dry_run`.

    Safe to run again, and from several processes at once: one transaction behind one lock. Tables
    that a newer pgqrs brought further are left as they are.
    Raises SchemaError where an application's own history keeps the tables.
    """
    validated_schema(schema)
    if dry_run:
        printed = io.StringIO()
        with _ALEMBIC_IS_GLOBAL:
            command.upgrade(_alembic(printed, schema=schema), "head", sql=True)
        return printed.getvalue()
    with translated(schema), _transactional(engine) as connection:
        if is_newer(installed_revision(connection, schema)):
            return ""
    with translated(schema), _transactional(engine) as connection, _ALEMBIC_IS_GLOBAL:
        command.upgrade(_alembic(io.StringIO(), schema=schema, connection=connection), "head")
    return ""


def uninstall(engine: Engine, schema: str = DEFAULT_SCHEMA, *, dry_run: bool = False) -> str:
    """Drop pgqrs's tables and views by name, and the schema if then empty; never CASCADE.

    Gives the SQL, which `dry_run` does not execute. Where nothing is installed it does nothing.
    Raises DatabaseError where other objects depend on the tables, and SchemaError where an
    application's own history keeps them.
    """
    validated_schema(schema)
    done: list[str] = []
    with translated(schema), _transactional(engine) as connection, connection.begin():
        lock(connection, schema)
        check_door(connection, schema, Door.INSTALL)
        present = set(inspect(connection).get_table_names(schema=schema))
        ours = [table for table in reversed(_all_tables(schema)) if table.name in present]
        shown = views.everyone(connection, schema) if tables(schema).queues in ours else []
        drops: list[Any] = [view_sql.drop(schema, name) for name in shown]
        drops += [DropTable(table) for table in ours]
        if is_free(connection, schema, {*shown, *(table.name for table in ours)}):
            drops.append(DropSchema(schema))
        for statement in drops:
            done.append(str(statement.compile(engine)).strip() + ";")
            if not dry_run:
                connection.execute(statement)
    return "\n".join(done) + "\n" if done else ""


def _alembic(output: io.StringIO, **handed_over: Any) -> AlembicConfig:
    config = AlembicConfig(output_buffer=output, stdout=output)
    # A percent sign in the path would be taken for an interpolation.
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(handed_over)
    return config


def _all_tables(schema: str) -> list[Table]:
    return [Table(VERSION_TABLE, MetaData(), schema=schema), *tables(schema)]


@contextmanager
def _transactional(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="READ COMMITTED")
