"""Databases for tests: one that is prepared, and copies of it, each gone when it is done with."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import URL, Engine, create_engine

from pgqrs.config import Config
from pgqrs.statements import databases as sql

__all__ = ["copied", "prepared"]

_EMPTY: Final = "template0"  # every server has it


@contextmanager
def prepared(server: str | URL, prepare: Callable[[Engine], object]) -> Iterator[URL]:
    """Give a database that `prepare` has filled, and to which nobody is connected."""
    with _fresh(server, _EMPTY) as url:
        engine = create_engine(url)
        try:
            prepare(engine)
        finally:
            engine.dispose()
        yield url


@contextmanager
def copied(server: str | URL, template: URL) -> Iterator[URL]:
    """Give a copy of a database that was prepared on this server."""
    with _fresh(server, template.database or _EMPTY) as url:
        yield url


@contextmanager
def _fresh(server: str | URL, template: str) -> Iterator[URL]:
    """Give a new database; it is dropped at the end, whoever is connected."""
    name = f"pgqrs_test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(_url(server), isolation_level="AUTOCOMMIT", pool_size=1)
    try:
        with engine.connect() as connection:
            version = connection.dialect.server_version_info or (0,)
            connection.execute(sql.create(name, template, int(version[0])))
        try:
            yield engine.url.set(database=name)
        finally:
            with engine.connect() as connection:
                connection.execute(sql.drop(name))
    finally:
        engine.dispose()


def _url(server: str | URL) -> URL:
    dsn = server if isinstance(server, str) else server.render_as_string(hide_password=False)
    return Config.from_dsn(dsn).url
