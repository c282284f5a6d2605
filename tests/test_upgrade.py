"""A rolling deploy: the tables first, then one process after the other, with nothing lost.

What an earlier release sends is replayed from its recording (see `recording.py`).
"""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from recording import revived, state_of
from sqlalchemy import URL, Engine, create_engine, text

from pgqrs import Admin, Config, Consumer, Producer, SchemaVersionError, migrations
from pgqrs.migrations.installing import _alembic

pytestmark = pytest.mark.matrix

RECORDINGS = Path(__file__).parent / "recordings"
REVISIONS = [script.revision for script in migrations.history()]
OLDER = REVISIONS[:-1]
PAIRS = [(old, new) for old in OLDER for new in REVISIONS[REVISIONS.index(old) :]]


@pytest.fixture
def empty(empty_url: URL) -> Iterator[Engine]:
    engine = create_engine(empty_url)
    yield engine
    engine.dispose()


def bring(engine: Engine, revision: str) -> None:
    """Bring the tables to a revision, as `pgqrs install` of its time did."""
    with engine.connect() as connection:
        command.upgrade(_alembic(io.StringIO(), schema="pgqrs", connection=connection), revision)


def recorded(revision: str) -> dict[str, Any]:
    """Give what the release of that revision sent, and what there was at the end."""
    found: dict[str, Any] = json.loads((RECORDINGS / f"{revision}.json").read_text())
    return found


def replay(engine: Engine, revision: str) -> None:
    """Send all that again: each statement is about as many rows as it was."""
    old, began = recorded(revision), dt.datetime.now(dt.UTC)
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        for number, parameters, rows in old["calls"]:
            sql = old["statements"][number]
            done = connection.execute(sql, [revived(each, began) for each in parameters])
            assert done.rowcount == rows, sql
    assert state(engine) == old["state"][0]


def state(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return state_of(connection)


def test_every_revision_but_the_newest_has_a_recording() -> None:
    """Whoever adds a revision records the release before it first."""
    assert {path.stem for path in RECORDINGS.glob("*.json")} == set(OLDER)
    for revision in OLDER:
        assert len(recorded(revision)["statements"]) > 40


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_an_older_pgqrs_works_on_newer_tables(empty: Engine, old: str, new: str) -> None:
    """All that it sends has the outcome that it had on its own."""
    bring(empty, new)
    replay(empty, old)


@pytest.mark.parametrize("old", OLDER)
def test_tables_are_upgraded_under_a_release_at_work(empty: Engine, old: str) -> None:
    """What it did before the upgrade stays as it is, and the newer release goes on with it."""
    bring(empty, old)
    replay(empty, old)
    before = state(empty)
    with Admin(config_of(empty)) as admin:
        admin.install()
        assert admin.verify() == []
        assert state(empty) == before
        waiting = {row[0] for row in before[2]}
        assert drained(admin, empty) == waiting


def config_of(engine: Engine) -> Config:
    dsn = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return Config.from_dsn(dsn)


def drained(admin: Admin, engine: Engine) -> set[int]:
    """Take all messages of all queues, now that they are due, and give their ids."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_messages SET vt = now(), max_attempts = 99"))
    found: set[int] = set()
    for queue in admin.list_queues():
        with Consumer(admin, queue) as consumer:
            while held := consumer.dequeue_batch(100):
                found |= {message.id for message in held}
                assert all(consumer.archive_batch(held))
    return found


NEW = {
    "enqueue": lambda a: sends(a, lambda p: p.enqueue(1)),
    "batch": lambda a: sends(a, lambda p: p.batch_enqueue([1, 2])),
    "delayed": lambda a: sends(a, lambda p: p.enqueue_delayed(1, 5)),
    "options": lambda a: sends(a, lambda p: p.enqueue(1, headers={"a": 1}, singleton_for=5)),
    "dequeue": lambda a: takes(a, lambda c: c.dequeue()),
    "batch of leases": lambda a: takes(a, lambda c: c.dequeue_batch(5)),
    "run": lambda a: takes(a, lambda c: c.run(print)),
    "create": lambda a: a.create_queue("new"),
    "look": lambda a: a.get_queue("q"),
    "list": lambda a: a.list_queues(),
    "messages": lambda a: a.messages("q"),
    "archive": lambda a: a.archived_messages("q"),
    "cancel": lambda a: a.cancel_messages([12, 15]),
    "dead letters": lambda a: a.replay_dead_letters("dead"),
    "maintain": lambda a: a.maintain(),
    "delete": lambda a: a.delete_queue("q", force=True),
}


def sends(admin: Admin, act: Callable[[Producer], Any]) -> None:
    with Producer(admin, "q") as producer:
        act(producer)


def takes(admin: Admin, act: Callable[[Consumer], Any]) -> None:
    with Consumer(admin, "q") as consumer:
        act(consumer)


def refusal(act: Callable[[], Any]) -> str:
    try:
        return f"gave {act()!r}"
    except SchemaVersionError as error:
        return str(error)


@pytest.mark.parametrize("old", OLDER)
def test_a_newer_pgqrs_on_older_tables_says_so_and_changes_nothing(empty: Engine, old: str) -> None:
    """Each error names the command that says what to run; after that all messages are there."""
    bring(empty, old)
    replay(empty, old)
    before = state(empty)
    with Admin(config_of(empty)) as admin:
        said = {name: refusal(lambda act=act: act(admin)) for name, act in NEW.items()}
        assert not {name: why for name, why in said.items() if "run `pgqrs verify`" not in why}
        looked = admin.all_queues_metrics(exact=True)  # which older tables can tell
        assert sum(each.total_messages for each in looked) == len(before[2])
        assert state(empty) == before
        (finding,) = admin.verify()
        assert f"at revision {old}, and this pgqrs needs {REVISIONS[-1]}" in finding.message
        assert finding.remedy == "pgqrs --schema pgqrs install"
        assert [found.check for found in admin.diagnose()] == ["schema", "rest"]
        admin.install()
        assert drained(admin, empty) == {row[0] for row in before[2]}


def test_an_older_pgqrs_leaves_newer_tables_alone(admin: Admin, engine: Engine) -> None:
    """Restarted while others are upgraded, it installs nothing, works, and warns of it."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_version SET version_num = 'pgqrs_9998'"))
    admin.install()
    assert "CREATE TABLE" in admin.install(dry_run=True)
    with engine.connect() as connection:
        assert migrations.installed_revision(connection) == "pgqrs_9998"
    admin.create_queue("q")
    with Producer(admin, "q") as producer, Consumer(admin, "q") as consumer:
        producer.enqueue(1)
        assert consumer.dequeue() is not None
        assert [found.severity for found in admin.verify()] == ["warning"]
        assert {found.severity for found in admin.diagnose()} == {"warning"}
