"""The façade in the words of pg-boss: a door to the same tables and operations."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, text

from pgqrs import (
    Admin,
    Config,
    Consumer,
    DuplicateMessageError,
    InvalidStateError,
    LeaseLostError,
    MissingConfigError,
    Producer,
    QueueNotFoundError,
    QueuePolicy,
    ThrottledError,
)
from pgqrs.aio.boss import AsyncClient
from pgqrs.boss import Client, Job, JobDetails, JobState, Queue

pytestmark = pytest.mark.matrix


def let_time_pass(engine: Engine, schema: str = "pgqrs") -> None:
    """Make what waits due now, and let what is leased run out."""
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema}.pgqrs_messages SET vt = now() - interval '1 s'"))


@pytest.fixture
def client(config: Config) -> Iterator[Client]:
    with Client(config) as client:
        client.create_standard_queue("q")
        yield client


def fetched(client: Client, queue: str = "q") -> JobDetails:
    job = client.fetch_job(queue)
    assert job is not None
    return job


def seen(client: Client, key: uuid.UUID, queue: str = "q") -> JobDetails:
    job = client.get_job(queue, key)
    assert job is not None
    return job


def test_the_first_page_of_pgboss_rs(empty_url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its example, in Python: as printed the job is not due yet; five seconds later it is."""
    dsn = empty_url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("DATABASE_URL", dsn)

    c = Client.builder().schema("desired_schema_name").connect()

    c.create_standard_queue("qname")
    c.create_standard_queue("qname_dlq")

    job = (
        Job.builder()
        .queue_name("qname")
        .data({"key": "value"})
        .priority(10)
        .retry_limit(1)
        .dead_letter("qname_dlq")
        .retry_delay(dt.timedelta(seconds=60 * 5))
        .expire_in(dt.timedelta(seconds=60 * 5))
        .retain_for(dt.timedelta(seconds=60 * 60 * 24))
        .delay_for(dt.timedelta(seconds=5))
        .singleton_for(dt.timedelta(seconds=7))
        .singleton_key("buzz")
        .build()
    )
    key = c.send_job(job)
    assert c.fetch_job("qname") is None

    engine = create_engine(empty_url)
    let_time_pass(engine, "desired_schema_name")
    engine.dispose()
    fetched_job = fetched(c, "qname")
    assert fetched_job.data == job.data
    assert fetched_job.state == JobState.ACTIVE
    assert fetched_job.id == key
    assert fetched_job.expires_at is not None
    assert fetched_job.started_on is not None
    assert fetched_job.expires_at - fetched_job.started_on == pytest.approx(
        dt.timedelta(minutes=5), abs=dt.timedelta(seconds=1)
    )
    assert c.complete_job("qname", fetched_job.id, {"result": "success!"})
    done = seen(c, key, "qname")
    assert (done.state, done.output) == (JobState.COMPLETED, {"result": "success!"})
    with pytest.raises(ThrottledError):
        c.send_job(job)
    c.close()


def test_both_ways_to_make_a_job_and_a_queue_are_the_same() -> None:
    """A builder has a method for each field, and gives what the keywords give."""
    at = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    values: dict[type, dict[str, Any]] = {
        Job: {
            "queue_name": "q",
            "data": [1],
            "priority": 1,
            "retry_limit": 4,
            "retry_delay": 2,
            "retry_backoff": True,
            "expire_in": 3,
            "retain_for": 4,
            "delay_for": 5,
            "start_after": at,
            "singleton_for": 6,
            "singleton_key": "k",
            "dead_letter": "d",
            "id": uuid.uuid4(),
        },
        Queue: {
            "name": "q",
            "policy": QueuePolicy.SHORT,
            "retry_limit": 1,
            "retry_delay": 9,
            "retry_backoff": True,
            "expire_in": 8,
            "retain_for": 7,
            "dead_letter": "d",
        },
    }
    for kind, fields in values.items():
        assert fields.keys() == set(kind.__slots__)  # type: ignore[attr-defined]
        builder = kind.builder()  # type: ignore[attr-defined]
        for name, value in fields.items():
            assert getattr(builder, name)(value) is builder
        assert builder.build() == kind(**fields)


def test_queues_are_made_looked_up_and_deleted(client: Client, config: Config) -> None:
    """With the usual defaults, or one's own; a second time they stay as they are."""
    client.create_queue(Queue(name="own", policy=QueuePolicy.SHORT, retry_limit=0, dead_letter="q"))
    client.create_standard_queue("own")
    assert [queue.name for queue in client.get_queues()] == ["own", "q"]
    own, standard = client.get_queue("own"), client.get_queue("q")
    assert own is not None
    assert (own.policy, own.retry_limit, own.dead_letter) == (QueuePolicy.SHORT, 0, "q")
    assert standard is not None
    assert (standard.retry_limit, standard.expire_in) == (2, dt.timedelta(minutes=15))
    with Admin(config) as admin:
        info = admin.get_queue("q")
        assert (info.max_attempts, info.visibility_timeout) == (3, dt.timedelta(minutes=15))
    client.send_data("own", 1)
    with pytest.raises(DuplicateMessageError):
        client.send_data("own", 2)
    client.delete_queue("own")
    assert client.get_queue("own") is None
    for ask in (lambda: client.fetch_job("own"), lambda: client.complete_job("own", uuid.uuid4())):
        with pytest.raises(QueueNotFoundError):
            ask()
    with pytest.raises(QueueNotFoundError):
        client.send_data("none", 1)


def test_an_active_job_is_ended_by_whoever_knows_its_id(client: Client, config: Config) -> None:
    """A client needs not have fetched it; the holder's own lease is over then."""
    key = client.send_data("q", "plain text")
    with Consumer(config, "q") as consumer:
        message = consumer.dequeue()
        assert message is not None
        assert (message.payload, message.message_id) == ("plain text", key)
        with Client(config) as other:
            assert other.complete_job("q", key, "done")
            assert not other.complete_job("q", key)
        with pytest.raises(LeaseLostError):
            consumer.archive(message)
    assert seen(client, key).output == "done"
    keys = [client.send_data("q", n) for n in range(3)]
    with Client(config) as one, Client(config) as two:
        assert [fetched(c).id for c in (one, two)] == keys[:2]
    # Both are gone, and what they fetched is still active: one statement a holder ends it.
    assert client.complete_jobs("q", [*keys, keys[0], uuid.uuid4()]) == 2
    assert seen(client, keys[2]).state == JobState.CREATED


def test_a_job_fails_until_its_retries_are_used_up(client: Client, engine: Engine) -> None:
    """Two retries are three attempts; then it is failed, and its dead letter is a job as well."""
    client.create_standard_queue("letters")
    key = client.send_job(Job(queue_name="q", data={"a": 1}, dead_letter="letters", retry_delay=60))
    for attempt in range(3):
        (job,) = client.fetch_jobs("q", 10)
        assert (job.id, job.retry_count, job.state) == (key, attempt, JobState.ACTIVE)
        assert client.fail_job("q", key, {"why": attempt})
        after = seen(client, key)
        assert after.state == (JobState.RETRY if attempt < 2 else JobState.FAILED)
        assert after.output == {"why": attempt}
        assert client.fetch_job("q") is None  # for a minute
        let_time_pass(engine)
    assert not client.fail_job("q", key)
    letter = fetched(client, "letters")
    assert (letter.data, letter.id) == ({"a": 1}, uuid.UUID(int=letter.number))
    assert client.complete_job("letters", letter.id)
    assert not client.cancel_job("q", letter.id)  # which is another queue's
    assert seen(client, letter.id, "letters").state == JobState.COMPLETED


def test_jobs_are_cancelled_resumed_and_deleted(client: Client) -> None:
    """In any state that allows it, one or several; a deleted job's id may be sent again."""
    keys = [client.send_data("q", n) for n in range(4)]
    assert fetched(client).id == keys[0]
    assert client.cancel_jobs("q", keys[:2]) == 2
    assert not client.complete_job("q", keys[0])
    assert seen(client, keys[0]).state == JobState.CANCELLED
    assert client.resume_job("q", keys[0])
    assert not client.resume_job("q", keys[2])
    assert (seen(client, keys[0]).state, fetched(client).id) == (JobState.CREATED, keys[0])
    with pytest.raises(DuplicateMessageError):
        client.send_job(Job(queue_name="q", id=keys[1]))
    assert client.delete_jobs("q", keys[:3]) == 3  # active, cancelled, created
    assert not client.delete_job("q", keys[1])
    assert client.get_job("q", keys[1]) is None
    assert client.send_job(Job(queue_name="q", data="again", id=keys[1])) == keys[1]
    assert [job.data for job in client.fetch_jobs("q", 5)] == [3, "again"]
    with pytest.raises(ValueError, match="number of a message"):
        client.send_job(Job(queue_name="q", id=uuid.UUID(int=5)))


def test_what_a_client_ended_is_held_no_more(client: Client) -> None:
    """So that its consumer does not beat for it until it would have expired."""
    keys = [client.send_data("q", n) for n in range(3)]
    assert len(client.fetch_jobs("q", 3)) == 3
    (consumer,) = client._consumers.values()
    assert consumer._steps.ledger.holds_any()
    client.complete_job("q", keys[0])
    client.fail_job("q", keys[1])
    client.cancel_job("q", keys[2])
    assert not consumer._steps.ledger.holds_any()


def test_a_client_in_a_transaction_of_yours(client: Client, engine: Engine) -> None:
    """Bound to a connection, what it sends and ends is there when yours is committed."""
    with engine.connect() as connection:
        inside = Client(connection)
        key = inside.send_data("q", 1)
        assert client.get_job("q", key) is None
        job = fetched(inside)
        assert inside.complete_job("q", job.id)
        connection.rollback()
    assert client.get_job("q", key) is None


def test_a_client_needs_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Where nothing names one, connecting says what to set."""
    for name in ("PGQRS_DSN", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingConfigError, match="DATABASE_URL"):
        Client.builder().connect()


def test_connecting_installs_once(empty_url: URL) -> None:
    """The tables are made in the schema that was asked for; a second client finds them."""
    dsn = empty_url.render_as_string(hide_password=False)

    async def main() -> uuid.UUID:
        connecting = AsyncClient.builder().url(dsn).schema("jobs")
        async with await connecting.connect() as client:
            await client.create_standard_queue("q")
            key = await client.send_data("q", {"a": 1})
            job = await client.fetch_job("q")
            assert job is not None
            assert job.id == key
            assert await client.fail_job("q", key, LookupError("gone"))
            return key

    key = asyncio.run(main())
    with Client(dsn, "jobs") as client:
        details = client.get_job("q", key)
        assert details is not None
        assert details.state == JobState.RETRY
        assert (details.output["type"], details.output["message"]) == ("LookupError", "gone")


def test_messages_of_producers_are_jobs_too(client: Client, config: Config) -> None:
    """Without a UUID a message's number is its id; with one it is found by that."""
    mine = uuid.uuid4()
    with Producer(config, "q") as producer:
        plain, named = producer.enqueue(1), producer.enqueue(2, message_id=mine)
    first, second = client.fetch_jobs("q", 2)
    assert (first.id, first.number) == (uuid.UUID(int=plain.id), plain.id)
    assert (second.id, second.number) == (mine, named.id)
    assert client.complete_jobs("q", [first.id, second.id]) == 2


def test_ids_may_be_text_and_a_closed_client_is_closed(config: Config) -> None:
    """As they travel in a URL; and nothing is done behind the back of who closed it."""
    with Client(config) as client:
        client.create_standard_queue("q")
        key = client.send_data("q", 1)
        assert seen(client, str(key)).id == key  # type: ignore[arg-type]
        assert fetched(client).id == key
        assert client.complete_job("q", str(key))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="UUID"):
            client.get_job("q", 17)  # type: ignore[arg-type]
    for act in (client.fetch_job, lambda queue: client.send_data(queue, 1)):
        with pytest.raises(InvalidStateError):
            act("q")
    with pytest.raises(InvalidStateError):
        client.get_job("q", key)
