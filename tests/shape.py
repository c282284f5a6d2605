"""What a schema consists of, as the server sees it, to compare two ways of making it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Engine, create_engine, inspect, text

OURS = {
    "pgqrs_archive",
    "pgqrs_keys",
    "pgqrs_messages",
    "pgqrs_queues",
    "pgqrs_version",
    "pgqrs_workers",
}


def plain(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def connected(url: URL) -> Iterator[Engine]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        yield engine
    finally:
        engine.dispose()


def run(engine: Engine, statement: str) -> Any:
    with engine.connect() as connection:
        result = connection.execute(text(statement))
        return result.all() if result.returns_rows else None


def tables_in(engine: Engine, schema: str = "pgqrs") -> set[str]:
    return set(inspect(engine).get_table_names(schema=schema))


SHAPE = {
    "columns": "SELECT table_name, column_name, ordinal_position, data_type, is_nullable,"
    " column_default, identity_generation FROM information_schema.columns"
    " WHERE table_schema = '{0}' ORDER BY 1, 3",
    "indexes": "SELECT indexname, replace(indexdef, '{0}.', '') FROM pg_indexes"
    " WHERE schemaname = '{0}' ORDER BY 1",
    "constraints": "SELECT conname, replace(pg_get_constraintdef(oid), '{0}.', '')"
    " FROM pg_constraint WHERE connamespace = '{0}'::regnamespace AND contype <> 'n' ORDER BY 1",
    "storage": "SELECT relname, ARRAY(SELECT unnest(reloptions) ORDER BY 1) FROM pg_class"
    " WHERE relnamespace = '{0}'::regnamespace AND relkind = 'r' ORDER BY 1",
}


def shape(engine: Engine, schema: str = "pgqrs") -> dict[str, Any]:
    """All of a schema that could differ between two ways of making it."""
    return {what: run(engine, query.format(schema)) for what, query in SHAPE.items()}
