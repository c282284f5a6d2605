"""Fixtures for pytest: a server, a database, a session that is rolled back, and a queue in it.

Nobody has them without asking: ``pytest_plugins = ["pgqrs.testing.plugin"]`` in the conftest.py at
the root of your tests. Each may be replaced by a fixture of yours with its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session

from pgqrs.admin import Admin
from pgqrs.testing import rolled_back
from pgqrs.testing.databases import copied, prepared
from pgqrs.types import QueueInfo

__all__ = [
    "pgqrs_dsn",
    "pgqrs_engine",
    "pgqrs_prepare",
    "pgqrs_queue",
    "pgqrs_server",
    "pgqrs_session",
]


@pytest.fixture(scope="session")
def pgqrs_server() -> Iterator[str]:
    """The DSN of a server on which databases can be made: an embedded one, for this process."""
    from pgqrs.embedded import EmbeddedPostgres

    with EmbeddedPostgres(durable=False) as server:
        yield server.dsn()


@pytest.fixture(scope="session")
def pgqrs_prepare() -> Callable[[Engine], object]:
    """What fills an empty database, once: it installs pgqrs. Replace it to add tables of yours."""
    from pgqrs.migrations import install

    return install


@pytest.fixture(scope="session")
def _pgqrs_template(pgqrs_server: str, pgqrs_prepare: Callable[[Engine], object]) -> Iterator[URL]:
    with prepared(pgqrs_server, pgqrs_prepare) as url:
        yield url


@pytest.fixture(scope="session")
def pgqrs_engine(_pgqrs_template: URL, pgqrs_server: str) -> Iterator[Engine]:
    """An engine on a database of this run, which was prepared."""
    with copied(pgqrs_server, _pgqrs_template) as url:
        engine = create_engine(url)
        yield engine
        engine.dispose()


@pytest.fixture
def pgqrs_session(pgqrs_engine: Engine) -> Iterator[Session]:
    """A session in a transaction that is rolled back after the test; its commits are savepoints."""
    with rolled_back(pgqrs_engine) as session:
        yield session


@pytest.fixture
def pgqrs_queue(pgqrs_session: Session) -> QueueInfo:
    """A queue of the name `test`, in the transaction of `pgqrs_session`."""
    with Admin(pgqrs_session) as admin:
        return admin.create_queue("test")


@pytest.fixture
def pgqrs_dsn(_pgqrs_template: URL, pgqrs_server: str) -> Iterator[str]:
    """The DSN of a fresh prepared database, for code that connects and commits by itself."""
    with copied(pgqrs_server, _pgqrs_template) as url:
        yield url.render_as_string(hide_password=False)
