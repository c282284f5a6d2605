"""The schema that the tables stand in: made, locked, and whether anybody else uses it."""

from __future__ import annotations

from sqlalchemy import Connection, TableClause, column, func, inspect, select
from sqlalchemy import table as sql_table
from sqlalchemy.schema import CreateSchema

from pgqrs.statements.schema_turn import schema_turn

__all__ = ["catalog", "is_free", "lock", "make_schema"]


def lock(connection: Connection, schema: str) -> None:
    """Wait for our turn to change `schema`; held until the transaction ends."""
    connection.execute(schema_turn(schema))


def make_schema(connection: Connection, schema: str) -> None:
    """Make the schema if it is not there.

    Looks first: CREATE SCHEMA IF NOT EXISTS needs rights on the database even when it exists.
    """
    if not inspect(connection).has_schema(schema):
        connection.execute(CreateSchema(schema))


def is_free(connection: Connection, schema: str, but_for: set[str]) -> bool:
    """Say whether nothing but these tables would keep us from dropping `schema`.

    Never `public`, which is the database's own, nor a schema that somebody else owns.
    """
    if schema == "public" or not _is_our_own(connection, schema):
        return False
    depend = catalog("pg_depend", "objid", "refclassid", "refobjid", "deptype")
    relations = catalog("pg_class", "oid", "relname", "relnamespace")
    of_schema = func.to_regnamespace(func.quote_ident(schema))
    mine = select(relations.c.oid).where(
        relations.c.relnamespace == of_schema, relations.c.relname.in_(but_for)
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


def _is_our_own(connection: Connection, schema: str) -> bool:
    namespaces = catalog("pg_namespace", "nspname", "nspowner")
    owned = select(func.pg_has_role(namespaces.c.nspowner, "USAGE"))
    return bool(connection.scalar(owned.where(namespaces.c.nspname == schema)))


def catalog(name: str, *columns: str) -> TableClause:
    """Give a table of the system's."""
    return sql_table(name, *(column(each) for each in columns), schema="pg_catalog")
