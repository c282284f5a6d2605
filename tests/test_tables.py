"""The repositories: values in and out, on an engine or in the caller's transaction."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

import pgqrs
from pgqrs import Admin, Archive, Config, Consumer, Messages, Producer, Queues, Workers

pytestmark = pytest.mark.matrix

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def queue(admin: Admin) -> pgqrs.QueueInfo:
    return admin.create_queue("q")


@pytest.fixture
def worked(config: Config, queue: pgqrs.QueueInfo) -> Iterator[Consumer]:
    """A queue with 3 ready, 1 delayed and 2 leased messages, and 2 archived ones."""
    with Producer(config, queue) as producer, Consumer(config, queue) as consumer:
        producer.batch_enqueue(range(7))
        producer.enqueue_delayed("7", 60)
        leased = consumer.dequeue_batch(4)
        consumer.archive_batch(leased[:2])
        yield consumer


def test_queues_by_name_and_id(admin: Admin) -> None:
    """Insert, get, get_by_name, exists, list, update, count and delete, as values."""
    queues = Queues(admin)
    made = [queues.insert(queue_name=name) for name in ("b", "a", "c")]
    assert queues.get(made[0].id) == made[0] == queues.get_by_name("b")
    assert queues.exists("a")
    assert not queues.exists("nix")
    assert queues.list() == made
    assert queues.list(limit=1, offset=1) == made[1:2]
    assert queues.update(made[0].id, paused=True, max_attempts=3).max_attempts == 3
    assert queues.update(made[1].id) == made[1]
    assert queues.count() == 3
    assert queues.delete(made[2].id)
    assert not queues.delete(made[2].id)


def test_queues_have_no_parent(admin: Admin) -> None:
    """Counting or filtering queues by foreign key is a TypeError that says so."""
    with pytest.raises(TypeError, match="Queues has no parent"):
        Queues(admin).count_by_fk(1)
    with pytest.raises(TypeError, match="Queues has no parent"):
        Queues(admin).filter_by_fk(1)


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (Queues, pgqrs.QueueNotFoundError),
        (Workers, pgqrs.WorkerNotFoundError),
        (Messages, pgqrs.MessageNotFoundError),
        (Archive, pgqrs.MessageNotFoundError),
    ],
)
def test_what_is_not_there(admin: Admin, table: type[Any], error: type[Exception]) -> None:
    """Getting or updating an id that is not there raises the error of its kind."""
    with pytest.raises(error):
        table(admin).get(404)
    column = "archive_mode" if table is Queues else "queue_id"
    with pytest.raises(error):
        table(admin).update(404, **{column: None})
    with pytest.raises(pgqrs.QueueNotFoundError):
        Queues(admin).get_by_name("nix")


@pytest.mark.usefixtures("worked")
def test_messages_by_queue(admin: Admin, queue: pgqrs.QueueInfo) -> None:
    """A queue's messages come ready first, then delayed, then leased, in pages."""
    messages = Messages(admin)
    payloads = [message.payload for message in messages.filter_by_fk(queue.id)]
    assert payloads == [4, 5, 6, 7, 2, 3]
    pages = [messages.filter_by_fk(queue.id, limit=4, offset=start) for start in (0, 4)]
    assert [message.payload for page in pages for message in page] == payloads
    assert messages.count_by_fk(queue.id) == messages.count() == 6
    assert messages.filter_by_fk(queue.id + 1) == []


def test_by_worker(admin: Admin, queue: pgqrs.QueueInfo, worked: Consumer) -> None:
    """What a consumer holds and what it finished can be listed and counted."""
    assert worked.worker_id is not None
    held = Messages(admin).filter_by_worker(worked.worker_id)
    assert [message.payload for message in held] == [2, 3]
    assert Messages(admin).count_by_worker(worked.worker_id) == 2
    done = Archive(admin).filter_by_worker(worked.worker_id)
    assert [message.payload for message in done] == [0, 1]
    assert Archive(admin).count_by_worker(worked.worker_id) == 2
    assert Archive(admin).count_by_fk(queue.id) == Archive(admin).count() == 2
    assert [m.id for m in Archive(admin).filter_by_fk(queue.id)] == [m.id for m in done]
    assert Workers(admin).count_by_fk(queue.id) == 2
    roles = {worker.role for worker in Workers(admin).filter_by_fk(queue.id)}
    assert roles == {pgqrs.WorkerRole.PRODUCER, pgqrs.WorkerRole.CONSUMER}


def test_json_columns_take_values(admin: Admin, queue: pgqrs.QueueInfo) -> None:
    """JSON columns are encoded and decoded by pgqrs, and checked as payloads are."""
    messages = Messages(admin)
    made = messages.insert(queue_id=queue.id, payload={"a": [1, None]}, vt=NOW, enqueued_at=NOW)
    assert messages.get(made.id).payload == {"a": [1, None]}
    assert messages.update(made.id, payload=[2]).payload == [2]
    with pytest.raises(pgqrs.PayloadError):
        messages.update(made.id, payload=float("nan"))
    done = Archive(admin).insert(
        id=made.id,
        queue_id=queue.id,
        vt=NOW,
        enqueued_at=NOW,
        archived_at=NOW,
        read_ct=1,
        returned_ct=0,
        priority=0,
        status="failed",
        error={"why": "test"},
    )
    assert (done.payload, done.output, done.error) == (None, None, {"why": "test"})


@pytest.mark.usefixtures("queue")
def test_a_constraint_is_a_database_error(admin: Admin) -> None:
    """A row that the schema refuses raises DatabaseError with its SQLSTATE."""
    with pytest.raises(pgqrs.DatabaseError) as caught:
        Queues(admin).insert(queue_name="q")
    assert caught.value.sqlstate == "23505"
    with pytest.raises(pgqrs.DatabaseError) as caught:
        Workers(admin).insert(role="nobody", hostname="h")
    assert caught.value.sqlstate == "23514"


def test_a_row_of_no_queue(admin: Admin) -> None:
    """A reference to a queue that is not there says so."""
    with pytest.raises(pgqrs.QueueNotFoundError) as caught:
        Workers(admin).insert(queue_id=404, role="consumer", hostname="h")
    assert caught.value.queue == 404


@pytest.mark.usefixtures("queue")
def test_in_the_callers_transaction(engine: Engine, config: Config) -> None:
    """On a Session, rows come and go with its transaction, and nothing of it is ended."""
    ended: list[str] = []
    with Session(engine) as session:
        event.listen(session, "after_commit", lambda _: ended.append("commit"))
        event.listen(session, "after_rollback", lambda _: ended.append("rollback"))
        with Queues(session, config) as queues:
            queues.insert(queue_name="mine")
            assert queues.exists("mine")
        assert ended == []
        session.rollback()
        assert not Queues(session, config).exists("mine")


def test_another_schema(admin: Admin, dsn: str) -> None:
    """The repositories read the schema of their configuration and no other."""
    other = Config.from_dsn(dsn, schema="Other")
    with Admin(other) as second:
        second.install()
        second.create_queue("there")
        assert [queue.queue_name for queue in Queues(second).list()] == ["there"]
    assert Queues(admin).list() == []


@pytest.mark.parametrize("table", [Messages, Archive])
def test_pages_read_no_more_than_needed(
    admin: Admin, queue: pgqrs.QueueInfo, table: type[Any]
) -> None:
    """A page of one queue comes from an index, without a sort or a scan of the table."""
    fill = text(
        "INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)"
        " SELECT :q, now(), now(), '1' FROM generate_series(1, 20000);"
    )
    move = text(
        "INSERT INTO pgqrs.pgqrs_archive (id, queue_id, vt, enqueued_at, archived_at, read_ct,"
        " returned_ct, priority, status)"
        " SELECT id, queue_id, vt, enqueued_at, vt, 1, 0, 0, 'completed' FROM pgqrs.pgqrs_messages"
    )
    with admin.pool.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        connection.execute(fill, {"q": queue.id})
        connection.execute(move)
        connection.execute(text("ANALYZE pgqrs.pgqrs_messages, pgqrs.pgqrs_archive"))
        plans = []

        def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if statement.startswith("SELECT"):
                rows = cursor.connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
                plans.append("\n".join(row[0] for row in rows))

        event.listen(connection, "before_cursor_execute", explain)
        assert len(table(connection, admin.binding.config).filter_by_fk(queue.id, limit=5)) == 5
    assert len(plans) == 1
    assert "Seq Scan" not in plans[0]
    assert "Sort" not in plans[0]


@pytest.mark.parametrize("name", ["nothing", "id) VALUES (1); --", ""])
def test_a_column_that_is_not_there(admin: Admin, name: str) -> None:
    """It is told by its name, before anything is sent."""
    for write in (Queues(admin).insert, lambda **values: Queues(admin).update(1, **values)):
        with pytest.raises(TypeError, match=re.escape(f"pgqrs_queues has no column {name!r}")):
            write(**{name: 1})


def test_options_are_json_like_the_others(admin: Admin) -> None:
    """What a message was given beside its payload can be written as a JSON value."""
    queue = admin.create_queue("q")
    now = dt.datetime.now(dt.UTC)
    row = {"queue_id": queue.id, "payload": 1, "vt": now, "enqueued_at": now}
    added = Messages(admin).insert(**row, options={"retain_for": 60})
    assert admin.get_message(added.id).options == {"retain_for": 60}
