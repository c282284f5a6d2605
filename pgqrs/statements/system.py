"""Ask the server about itself and about pgqrs's tables as a whole; reads catalogs and statistics.

Nothing here looks at a message.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import ARRAY, Executable, Table, Text, bindparam, text

from pgqrs.models import Tables
from pgqrs.statements.per_schema import per_schema

__all__ = ["every_table", "named", "server", "workers"]


def named(table: Table) -> str:
    """Give the full name of a table, as SQL that is no statement of its own writes it."""
    return f'"{table.schema}".{table.name}'


@per_schema
def server(t: Tables) -> Executable:
    """Give (database, server version, ids given to messages, rows taken from their table).

    The ids are null where this role may not see them.
    """
    return text(
        "SELECT current_database(), current_setting('server_version'),"
        " CASE WHEN has_sequence_privilege(ids.name, 'SELECT')"
        " THEN coalesce(pg_sequence_last_value(ids.name::regclass), 0) END,"
        " pg_stat_get_tuples_deleted(CAST(:messages AS regclass))"
        " FROM (SELECT pg_get_serial_sequence(:messages, 'id') AS name) AS ids"
    ).bindparams(bindparam("messages", named(t.messages), type_=Text))


@cache
def every_table() -> Executable:
    """Give of the tables `names` in `schema` how large they are and when they were cleaned.

    A row is (name, live rows, dead rows, bytes of the table, bytes of its indexes,
    last vacuum, last analyze).
    """
    return text(
        "SELECT c.relname, pg_stat_get_live_tuples(c.oid), pg_stat_get_dead_tuples(c.oid),"
        " pg_table_size(c.oid), pg_indexes_size(c.oid),"
        " greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)),"
        " greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid))"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND c.relname = ANY(:names)"
        " ORDER BY array_position(:names, c.relname::text)"
    ).bindparams(bindparam("schema", type_=Text), bindparam("names", type_=ARRAY(Text)))


@per_schema
def workers(t: Tables) -> Executable:
    """Count workers: (ready, suspended, stopped, stale); stale ones are silent for `age`."""
    silent = "shutdown_at IS NULL AND heartbeat_at < clock_timestamp() - :age"
    counts = [f"status = '{status}'" for status in ("ready", "suspended", "stopped")]
    columns = ", ".join(f"count(*) FILTER (WHERE {which})" for which in (*counts, silent))
    return text(f"SELECT {columns} FROM {named(t.workers)}")
