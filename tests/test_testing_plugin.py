"""The fixtures of `pgqrs.testing.plugin`, in the tests of somebody else's project."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

CONFTEST = '''
"""An application with a table and queues of its own, on the server of the fixtures."""

import pytest
from sqlalchemy import text

import pgqrs

pytest_plugins = ["pgqrs.testing.plugin"]


@pytest.fixture(scope="session")
def pgqrs_prepare(pgqrs_prepare):
    def prepare(engine):
        pgqrs_prepare(engine)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE orders (id int PRIMARY KEY, shipped bool)"))
        with pgqrs.Admin(engine) as admin:
            admin.create_queue("orders")

    return prepare
'''
TESTS = """
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

import pgqrs
from pgqrs.testing import assert_enqueued, move_clock, work


def count(bind, table="orders"):
    return bind.scalar(text(f"SELECT count(*) FROM {table}"))


def place(session, producer, number):
    session.execute(text(f"INSERT INTO orders VALUES ({number}, false)"))
    producer.within(session).enqueue({"order": number}, delay=60)
    session.commit()


@pytest.mark.parametrize("turn", [1, 2])
def test_nothing_is_left_to_the_next(pgqrs_engine, pgqrs_session, turn):
    with pgqrs.Producer(pgqrs_engine, "orders") as producer:
        place(pgqrs_session, producer, 1)
    assert_enqueued(pgqrs_session, "orders", {"order": 1}, delay=60)
    assert count(pgqrs_session) == 1
    with pgqrs_engine.connect() as other:
        assert count(other) == count(other, "pgqrs.pgqrs_messages") == 0


@pytest.mark.parametrize("turn", [1, 2])
def test_a_queue_of_ones_own(pgqrs_session, pgqrs_queue, turn):
    pgqrs.Producer(pgqrs_session, pgqrs_queue).enqueue([turn], delay=60)
    move_clock(pgqrs_session, 60)
    seen = []
    assert work(pgqrs_session, "test", lambda message: seen.append(message.payload)).completed == 1
    assert seen == [[turn]]


@pytest.mark.parametrize("turn", [1, 2])
def test_a_database_of_ones_own(pgqrs_dsn, turn):
    engine = create_engine(pgqrs_dsn)
    with pgqrs.Producer(pgqrs_dsn, "orders") as producer, Session(engine) as session:
        place(session, producer, turn)
    move_clock(pgqrs_dsn, 60)
    with pgqrs.Consumer(pgqrs_dsn, "orders") as consumer, engine.connect() as connection:
        assert consumer.archive(consumer.dequeue()).payload == {"order": turn}
        assert count(connection) == 1
    engine.dispose()


def test_fails(pgqrs_session, pgqrs_queue):
    assert_enqueued(pgqrs_session, "test", {"order": 2})
"""


def test_a_project_uses_the_fixtures(tmp_path: Path) -> None:
    """Each test begins with what was prepared and nothing else; a failure tells what is there."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_orders.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False
    )
    assert "1 failed, 6 passed" in done.stdout, done.stdout + done.stderr
    reason = "AssertionError: no message with payload={'order': 2}: queue 'test' is empty"
    assert reason in done.stdout
    assert "expectation.py" not in done.stdout  # the trace ends in the test


def test_nobody_has_them_without_asking() -> None:
    """Pgqrs registers no plugin, and whoever tests with something else needs no pytest."""
    assert [each.value for each in entry_points(group="pytest11") if "pgqrs" in each.value] == []
    code = "import sys, pgqrs.testing.aio; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
