"""The tables on disk: what VACUUM left, what it may not clean, and indexes grown out of shape."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from pgqrs.doctor.check import Terms, error, warning
from pgqrs.models import tables
from pgqrs.operations import maintain
from pgqrs.overview import TableStats
from pgqrs.statements import diagnosis as sql
from pgqrs.statements import system
from pgqrs.statements.system import named
from pgqrs.types import Finding

__all__ = ["analyze", "of_dead_rows", "of_indexes", "of_statistics", "of_vacuuming", "vacuum"]


def of_vacuuming(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say where autovacuum is switched off."""
    parameters = {"schema": terms.schema, "names": _names(terms)}
    is_on, without = connection.execute(sql.vacuuming(), parameters).one()
    if not is_on:
        remedy = "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()"
        yield error("autovacuum is off on this server", remedy)
    for table in tables(terms.schema):
        if table.name in without:
            remedy = f"ALTER TABLE {named(table)} RESET (autovacuum_enabled)"
            yield error(f"autovacuum is off for {table.name}", remedy)


def of_dead_rows(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say which tables have many dead rows."""
    parameters = {"schema": terms.schema, "names": _names(terms)}
    for row in connection.execute(system.every_table(), parameters):
        table = TableStats(*row)
        full = f'"{terms.schema}".{table.table_name}'
        limit = max(terms.dead_rows, table.live_rows // 5 * (table.table_name != _hot(terms)))
        if table.dead_rows >= limit:
            when = (
                f"{table.last_vacuum_at:%Y-%m-%d %H:%M:%S%z}" if table.last_vacuum_at else "never"
            )
            yield warning(
                f"{table.table_name} has {table.dead_rows:,} dead rows beside {table.live_rows:,};"
                f" last vacuum: {when}",
                f"VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) {full}; where it does not help, a"
                " snapshot is held",
            )


def of_statistics(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say which tables have many rows and no statistics to plan by."""
    parameters = {"schema": terms.schema, "names": _names(terms)}
    for row in connection.execute(system.every_table(), parameters):
        table = TableStats(*row)
        if table.last_analyze_at is None and table.live_rows >= terms.dead_rows:
            message = f"{table.table_name} has {table.live_rows:,} rows and no statistics"
            yield warning(message, f'ANALYZE "{terms.schema}".{table.table_name}')


def of_indexes(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Estimate which indexes are far larger than their rows need."""
    for table in tables(terms.schema):
        parameters = {"schema": terms.schema, "name": table.name}
        for name, size, need in connection.execute(sql.indexes(), parameters):
            if size >= terms.bloat_bytes and size > terms.bloat_factor * max(need, 1):
                yield warning(
                    f"index {name} has {size / 2**20:,.1f} MiB, and its rows need about"
                    f" {need / 2**20:,.1f} MiB",
                    f'REINDEX INDEX CONCURRENTLY "{terms.schema}".{name}',
                )


def vacuum(connection: Connection, terms: Terms) -> None:
    """Vacuum the messages; without the right to, the server warns and goes on."""
    maintain.vacuum(connection, terms.schema)


def analyze(connection: Connection, terms: Terms) -> None:
    """Have the server look at what is in the tables, likewise."""
    connection.execute(sql.analyze(terms.schema))


def _hot(terms: Terms) -> str:
    return tables(terms.schema).messages.name


def _names(terms: Terms) -> list[str]:
    return [table.name for table in tables(terms.schema)]
