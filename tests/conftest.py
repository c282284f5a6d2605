"""The server and databases of the tests.

One embedded cluster a run (or the server of PGQRS_TEST_DSN), a template database migrated by
Alembic once, and a fresh copy of it for each test that asks.
"""

from __future__ import annotations

import itertools
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text

from pgqrs import Admin, Config, migrations
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from processes import Crowd

TEMPLATE = "pgqrs_template"
SETTINGS = {"max_connections": 200, "max_prepared_transactions": 10}
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """Start the cluster in the process that controls the run; workers are told its DSN."""
    if hasattr(config, "workerinput") or os.environ.get("PGQRS_TEST_DSN"):
        return
    server = EmbeddedPostgres(durable=False, settings=SETTINGS)
    server.start()
    config.stash[_SERVER] = server


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the cluster."""
    if _SERVER in config.stash:
        config.stash[_SERVER].stop()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker where the cluster is."""
    if _SERVER in node.config.stash:
        node.workerinput["dsn"] = node.config.stash[_SERVER].dsn()


_SERVER: pytest.StashKey[EmbeddedPostgres] = pytest.StashKey()


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> URL:
    """The maintenance database of the cluster."""
    given = os.environ.get("PGQRS_TEST_DSN")
    if given is None and _SERVER in request.config.stash:
        given = request.config.stash[_SERVER].dsn()
    if given is None:
        given = request.config.workerinput["dsn"]  # type: ignore[attr-defined]
    return make_url(given).set(drivername="postgresql+psycopg")


@pytest.fixture(scope="session")
def maintenance(server_url: URL) -> Iterator[Engine]:
    """An engine on the maintenance database, in autocommit."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT", pool_size=1)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def template(maintenance: Engine) -> str:
    """A database with pgqrs installed, one a worker process, to be copied."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    with maintenance.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = create_engine(maintenance.url.set(database=name))
    migrations.install(engine)
    engine.dispose()
    return name


@pytest.fixture(scope="module")
def quiet_server() -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses: its write-ahead log and its dead rows are the test's own."""
    server = EmbeddedPostgres(durable=False, settings={"autovacuum": "off"})
    try:
        server.start()
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


def _database(maintenance: Engine, source: str) -> Iterator[URL]:
    name = f"pgqrs_{os.getpid()}_{next(_numbers)}"
    with maintenance.connect() as connection:
        connection.execute(
            text(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY")
            if connection.dialect.server_version_info >= (15,)  # type: ignore[operator]
            else text(f"CREATE DATABASE {name} TEMPLATE {source}")
        )
    yield maintenance.url.set(database=name)
    with maintenance.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def url(maintenance: Engine, template: str) -> Iterator[URL]:
    """A fresh database with pgqrs installed."""
    yield from _database(maintenance, template)


@pytest.fixture
def empty_url(maintenance: Engine) -> Iterator[URL]:
    """A fresh database with nothing in it."""
    yield from _database(maintenance, "template0")


@pytest.fixture
def dsn(url: URL) -> str:
    """The fresh database, as users write it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def config(dsn: str) -> Config:
    """A configuration for the fresh database that reads no environment."""
    return Config.from_dsn(dsn)


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """A host's own engine on the fresh database, with SQLAlchemy's defaults."""
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def admin(config: Config) -> Iterator[Admin]:
    """An admin of the fresh database."""
    with Admin(config) as admin:
        yield admin


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], dsn: str) -> Callable[..., tuple[int, str, str]]:
    """Run a command line on the fresh database: its status, output and complaints."""
    from pgqrs.cli.app import run

    def line(*words: object) -> tuple[int, str, str]:
        status = run(["--dsn", dsn, *map(str, words)])
        return (status, *capsys.readouterr())

    return line


@pytest.fixture
def ask(line: Callable[..., tuple[int, str, str]]) -> Callable[..., Any]:
    """Give the JSON document that a command prints, where it must succeed."""

    def ask(*words: object) -> Any:
        status, out, complaints = line(*words, "--format", "json")
        assert (status, complaints) == (0, "")
        return json.loads(out)

    return ask


@pytest.fixture
def crowd(dsn: str, tmp_path: Path, admin: Admin) -> Iterator[Crowd]:
    """Worker and producer processes on the fresh database; none is left behind."""
    from processes import crowd_on
    from run_client import QUEUE

    admin.create_queue(QUEUE)
    admin.close()
    with crowd_on(dsn, tmp_path) as crowd:
        yield crowd


@pytest.fixture
def role(maintenance: Engine) -> Iterator[str]:
    """A login with the password secret that owns nothing yet, and must not at the end."""
    name = f"tenant_{uuid.uuid4().hex[:8]}"
    with maintenance.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'"))
    yield name
    with maintenance.connect() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
