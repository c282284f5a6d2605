"""`pgqrs.testing`: work done inline as a run does it, a clock that moves, messages looked for."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from host import Base, Order
from sqlalchemy import URL, DateTime, Engine, cast, event, func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from waiting import ask, until

import pgqrs
from pgqrs import (
    Admin,
    Consumer,
    Dead,
    Done,
    Handlers,
    Json,
    Producer,
    QueueMessage,
    Retry,
    testing,
)
from pgqrs.models import Archive, Message, Model, Worker
from pgqrs.statements.clock import move_back
from pgqrs.testing import aio, expectation

HOUR = dt.timedelta(hours=1)


class Parcel(pgqrs.Message):
    number: int


class Letter(pgqrs.Message):
    number: int


@pytest.fixture
def host(engine: Engine, admin: Admin) -> Engine:
    Base.metadata.create_all(engine)
    admin.create_queue("q", max_attempts=2, retry_delay=3600)
    return engine


@pytest.fixture
def session(host: Engine) -> Iterator[Session]:
    with testing.rolled_back(host) as session:
        yield session


@pytest.fixture
def producer(session: Session) -> Producer:
    return Producer(session, "q")


def answer(message: QueueMessage) -> Any:
    """Say of a message what its payload names."""
    if message.payload == "raise":
        raise KeyError("not now")
    answers: dict[str, Any] = {
        "nothing": None,
        "output": {"a": [1]},
        "done": Done("text"),
        "retry": Retry(60, "later"),
        "dead": Dead("never"),
        "not json": {1, 2},
    }
    return answers[message.payload]


ANSWERS = ["nothing", "output", "done", "retry", "dead", "not json", "raise"]


def standing(connection: Any) -> list[Any]:
    """Give where messages stand: in what state, tried how often, with which output and error."""
    m, a = Message, Archive
    waiting = select(m.payload, m.state, m.read_ct, m.returned_ct, m.error)
    ended = select(a.payload, a.status, a.read_ct, a.returned_ct, a.output, a.error)
    rows = [*connection.execute(waiting), *connection.execute(ended)]
    return sorted((_without_trace(row) for row in rows), key=str)


def _without_trace(row: Any) -> list[Any]:
    return [
        {name: each[name] for name in each if name != "traceback"}
        if isinstance(each, dict)
        else each
        for each in row
    ]


@pytest.mark.matrix
def test_work_comes_to_what_a_run_comes_to(host: Engine, config: pgqrs.Config) -> None:
    """Whatever a handler says, messages stand and are counted as after `run`; then all is gone."""
    jobs = [f'"{each}"' for each in ANSWERS]
    with testing.rolled_back(host) as session:
        Producer(session, "q").batch_enqueue(jobs)
        inline = testing.work(session, "q", answer), standing(session)
    assert ask(host, "SELECT count(*) FROM pgqrs.pgqrs_messages") == 0
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(jobs)
        reports: list[pgqrs.Report] = []
        thread = threading.Thread(target=lambda: reports.append(consumer.run(answer)))
        thread.start()
        tried = "SELECT count(*) = 7 FROM (SELECT 1 FROM pgqrs.pgqrs_archive UNION ALL SELECT 1"
        until(lambda: ask(host, f"{tried} FROM pgqrs.pgqrs_messages WHERE state = 1) t"))
        consumer.stop()
        thread.join(20)
    with host.connect() as connection:
        assert inline == (reports[0], standing(connection))
    assert (inline[0].completed, inline[0].failed, inline[0].dead) == (3, 3, 1)


def test_what_a_handler_enqueues_and_what_is_due_again_is_worked_too(
    session: Session, producer: Producer
) -> None:
    """Until nothing is due, or for so many messages; a delayed one is left alone."""
    seen: list[Any] = []

    def handler(message: QueueMessage) -> Any:
        seen.append((message.payload, message.attempts, pgqrs.context.get().message_id))  # type: ignore[union-attr]
        if message.payload == 1:
            producer.batch_enqueue([2, 3])
            producer.enqueue(4, delay=1)
        return Retry(0) if message.payload == 3 else None

    first = producer.enqueue(1)
    assert testing.work(session, "q", handler, at_most=2).completed == 2
    assert [each[:2] for each in seen] == [(1, 1), (2, 1)]
    assert seen[0][2] == first.id
    report = testing.work(session, "q", handler)
    assert (report.failed, report.dead) == (2, 1)
    assert [each[:2] for each in seen[2:]] == [(3, 1), (3, 2)]
    testing.assert_enqueued(session, "q", 4)
    batches: list[int] = []
    producer.batch_enqueue(range(5))
    assert testing.work(
        session, "q", lambda some: batches.append(len(some)), batch_size=3
    ).completed
    assert batches == [3, 2]


def test_a_type_that_nobody_handles_is_given_back(session: Session, producer: Producer) -> None:
    """As a run gives it back: delayed, at no attempt's cost."""
    handlers, seen = Handlers(), []

    @handlers.on(Parcel)
    def deliver(message: QueueMessage[Parcel]) -> None:
        seen.append(message.payload.number)

    producer.enqueue({"a": 1})
    producer.enqueue(Parcel(number=7))
    report = testing.work(session, "q", handlers)
    assert (report.completed, report.returned, seen) == (1, 1, [7])
    assert testing.assert_enqueued(session, "q", {"a": 1}).attempts == 0


@pytest.mark.matrix
def test_a_handlers_session_is_in_the_transaction(session: Session, producer: Producer) -> None:
    """What it writes goes with the end of its message; nothing of a failed attempt is left."""
    sessions = sessionmaker(class_=Session)

    def handler(message: QueueMessage, own: Session) -> None:
        own.add(Order(name=str(message.payload)))
        producer.within(own).enqueue({"of": message.payload}, delay=60)
        if message.payload == "commits":
            own.commit()
        if message.payload == "fails":
            own.execute(insert(Order).values(id=1))
            own.execute(insert(Order).values(id=1))

    producer.batch_enqueue(['"works"', '"fails"', '"commits"'])
    report = testing.work(session, "q", handler, session=sessions)
    assert (report.completed, report.failed) == (1, 2)
    # A handler that ends the transaction has committed before its message could be archived.
    assert set(session.scalars(select(Order.name))) == {"works", "commits"}
    assert {m.payload["of"] for m in testing.enqueued(session, "q", delay=60)} == {
        "works",
        "commits",
    }


@pytest.mark.matrix
def test_what_the_server_refuses_leaves_the_transaction_usable(
    session: Session, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes a failed attempt, as in a run."""
    monkeypatch.setattr("pgqrs.runner.task.output_text", lambda value: value)
    session.add(Order(name="kept"))
    producer.enqueue(1, max_attempts=1)
    assert testing.work(session, "q", lambda _: "1e999999").dead == 1
    assert "cannot be stored" in str(session.scalar(select(Archive.error)))
    assert session.scalar(select(func.count(Order.id))) == 1


def test_exceptions_are_raised_where_that_is_asked_for(
    session: Session, producer: Producer
) -> None:
    """Then the first one ends the work, settled; what is no Exception always does."""
    producer.batch_enqueue(["1", "2"])

    def handler(message: QueueMessage) -> None:
        raise LookupError(message.payload)

    with pytest.raises(LookupError, match="1"):
        testing.work(session, "q", handler, raises=True)
    assert [m.attempts for m in testing.enqueued(session, "q")] == [1, 0]
    with pytest.raises(pytest.fail.Exception):
        testing.work(session, "q", lambda _: pytest.fail("seen"))
    assert [m.attempts for m in testing.enqueued(session, "q")] == [1, 1]
    with pytest.raises(ValueError, match="at_most"):
        testing.work(session, "q", handler, at_most=0)
    with pytest.raises(pgqrs.QueueNotFoundError):
        testing.work(session, "none", handler)


def test_whatever_ends_an_attempt_is_raised_where_that_is_asked_for(
    session: Session, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a handler's session is not committed, or what it hands over cannot be kept."""

    def fails(_: Session) -> None:
        raise LookupError("at the commit")

    def work(handler: Any, **options: Any) -> None:
        producer.enqueue(1)
        testing.work(session, "q", handler, raises=True, **options)

    sessions = sessionmaker()
    event.listen(sessions, "before_commit", fails)
    with pytest.raises(LookupError, match="at the commit"):
        work(lambda *_: None, session=sessions)
    with pytest.raises(pgqrs.PayloadError):
        work(lambda _: object())
    with pytest.raises(TypeError, match="a batch handler returns"):
        work(lambda _: "one", batch_size=2)
    monkeypatch.setattr("pgqrs.runner.task.output_text", lambda value: value)
    with pytest.raises(pgqrs.PayloadError, match="cannot be stored"):
        work(lambda _: "1e999999")
    assert [m.attempts for m in testing.enqueued(session, "q")] == [1] * 4


@pytest.mark.parametrize("error", [SystemExit, pytest.fail.Exception, asyncio.CancelledError])
def test_what_is_no_exception_is_settled_and_raised(
    host: Engine, url: URL, config: pgqrs.Config, error: type[BaseException]
) -> None:
    """As in a run it is a failed attempt, whatever the bind; an assertion reaches the test."""

    def handler(_: QueueMessage) -> None:
        raise error

    async def later(_: QueueMessage) -> None:
        raise error

    async def main() -> None:
        engine = create_async_engine(url)
        with pytest.raises(error):
            await aio.work(engine, "q", later)
        await engine.dispose()

    with Producer(config, "q") as producer:
        producer.batch_enqueue([1, 2, 3])
    with pytest.raises(error):
        testing.work(config, "q", handler)
    with pytest.raises(error):
        testing.work(config, "q", later)
    asyncio.run(main())
    assert [(m.state, m.attempts) for m in testing.enqueued(host, "q")] == [("retry", 1)] * 3


@pytest.mark.parametrize(
    ("commits", "options"),
    [("before", {"at_most": 10}), ("between", {"at_most": 1}), ("never", {"raises": True})],
)
def test_a_lease_that_a_handler_rolled_back_ends_the_work(
    session: Session, producer: Producer, commits: str, options: Any
) -> None:
    """It would be given again for ever: the error says so, and what to do about it."""

    def handler(message: QueueMessage) -> None:
        if message.payload == "commits":
            session.commit()
        else:
            session.rollback()
            raise LookupError("refused")

    if commits == "between":
        producer.enqueue('"commits"')
        assert testing.work(session, "q", handler).completed == 1
    producer.enqueue('"rolls back"')
    if commits != "never":
        session.commit()
    with pytest.raises(pgqrs.InvalidStateError, match=r"rollback.*work\(\).*session="):
        testing.work(session, "q", handler, **options)
    assert len(testing.enqueued(session, "q")) == (commits != "never")


def test_a_lease_that_a_handler_ended_otherwise_is_lost(
    session: Session, producer: Producer
) -> None:
    """As in a run, where somebody cancels or deletes what is worked at."""
    admin = Admin(session)

    def handler(message: QueueMessage) -> None:
        if message.payload == "cancel":
            admin.cancel_messages(message.id)
        else:
            admin.delete_messages([message.id], force=True)

    producer.batch_enqueue(['"cancel"', '"delete"'])
    report = testing.work(session, "q", handler)
    assert (report.lost, report.completed) == (2, 0)


def test_work_leaves_no_worker_that_looks_alive(session: Session, producer: Producer) -> None:
    """Its row is stopped, where the transaction is committed after all."""
    producer.enqueue(1)
    testing.work(session, "q", lambda _: None)
    roles = select(Worker.role, Worker.status)
    assert [tuple(row) for row in session.execute(roles)] == [("consumer", "stopped")]


@pytest.mark.matrix
def test_delays_retries_and_leases_fire_when_the_clock_moves(
    session: Session, producer: Producer
) -> None:
    """Each when its time has come, and not a moment before; the holder's fence stays."""
    consumer = Consumer(session, "q")
    producer.enqueue("1", delay=60)
    testing.move_clock(session, 59)
    assert consumer.dequeue() is None
    testing.move_clock(session, dt.timedelta(seconds=1))
    leased = consumer.dequeue(vt=30)
    assert leased is not None
    testing.move_clock(session, 29)
    assert consumer.dequeue() is None
    assert consumer.extend_visibility(leased, 10).id == leased.id
    testing.move_clock(session, 10)
    again = consumer.dequeue()
    assert again is not None
    assert again.attempts == 2
    with pytest.raises(pgqrs.LeaseLostError):
        consumer.archive(leased)
    consumer.release(again)
    assert testing.work(session, "q", lambda _: Retry()).dead == 1
    producer.enqueue("2")
    assert testing.work(session, "q", lambda _: Retry()).failed == 1
    testing.move_clock(session, 2 * HOUR)
    assert testing.work(session, "q", lambda _: None).completed == 1
    with pytest.raises(ValueError, match="between 0"):
        testing.move_clock(session, -1)


@pytest.mark.matrix
def test_windows_history_and_heartbeats_age_with_the_clock(
    session: Session, producer: Producer
) -> None:
    """A window opens, what is kept for a time is purged, a worker that is silent is stale."""
    admin = Admin(session)
    admin.update_queue("q", retention=60)
    once: Any = {"singleton_key": "k", "singleton_for": 600}
    producer.enqueue("1", **once)
    producer.enqueue("2", delay=50, retain_for=10)
    assert testing.work(session, "q", lambda _: None).completed == 1
    holder = Consumer(session, "q")
    assert holder.dequeue() is None
    testing.move_clock(session, 59)
    assert admin.maintain() == pgqrs.Maintenance()
    with pytest.raises(pgqrs.ThrottledError):
        producer.enqueue("1", **once)
    assert holder.is_healthy(max_age=60)
    testing.move_clock(session, 1)
    assert admin.maintain() == pgqrs.Maintenance(purged_messages=1, expired_messages=1)
    testing.move_clock(session, 540)
    assert producer.enqueue("1", **once).id
    assert not holder.is_healthy(max_age=60)


def test_every_time_that_is_stored_moves() -> None:
    """But for when a queue was made, on which nothing depends."""
    moved = str(move_back("pgqrs").compile(dialect=postgresql.dialect()))
    for table in Model.metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, DateTime) and column.name != "created_at":
                assert f"{column.name}=(pgqrs.{table.name}.{column.name} - " in moved


@pytest.mark.matrix
def test_messages_are_found_by_payload_and_options(session: Session, producer: Producer) -> None:
    """Each option that is given has to be so, and each alone tells a message from others."""
    Admin(session).create_queue("graves")
    given: Any = {
        "priority": 5,
        "delay": 60,
        "max_attempts": 9,
        "retry_delay": 5,
        "retry_delay_max": 50,
        "retry_backoff": True,
        "expire_in": 7,
        "retain_for": 70,
        "dead_letter": "graves",
        "singleton_key": "k",
        "headers": {"trace": "a"},
        "message_id": "00000000-0000-4000-8000-000000000007",
    }
    other: Any = {name: value + 1 for name, value in given.items() if type(value) is int} | {
        "retry_backoff": False,
        "dead_letter": "",
        "singleton_key": "l",
        "headers": {"trace": "b"},
        "message_id": "00000000-0000-4000-8000-000000000008",
    }
    assert other.keys() == given.keys()
    sent = producer.enqueue(Parcel(number=7), **given, singleton_for=60)
    producer.enqueue({"number": 8, "tags": ["a", {"b": 1, "c": 2}]})
    assert testing.assert_enqueued(session, "q", Parcel(number=7), **given).id == sent.id
    for name in given:
        assert len(testing.enqueued(session, "q", **{name: given[name]})) == 1, name
        testing.assert_not_enqueued(session, "q", **{name: other[name]})
    due = sent.vt
    assert testing.enqueued(session, "q", deliver_at=due, message_type="parcel")
    assert testing.enqueued(session, "q", containing={"tags": [{"c": 2}]}, priority=0)
    assert testing.enqueued(session, "q", containing={"tags": []}, delay=0)
    for part in ({"tags": [{"d": 2}]}, {"tags": ["a", "e"]}, {"number": {}}, [8], {"tags": {}}):
        testing.assert_not_enqueued(session, "q", containing=part)
    assert len(testing.enqueued(session, "q")) == 2
    producer.enqueue([1, {"a": True}])
    assert testing.enqueued(session, "q", [1.0, {"a": True}])
    for almost in ([True, {"a": True}], [1, {"a": 1}], [1], [1, {"a": True, "b": None}], None):
        testing.assert_not_enqueued(session, "q", almost)
    with pytest.raises(TypeError, match="has no option 'queue_name'"):
        testing.enqueued(session, "q", queue_name="q")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="singleton_key instead"):
        testing.enqueued(session, "q", singleton_for=60)


@pytest.mark.matrix
def test_what_is_expected_is_compared_as_jsonb_does(session: Session, producer: Producer) -> None:
    """At the top an array contains a scalar; headers are JSON as well, where 1 is not true."""
    wholes = [["a", {"b": ["c"]}], [["a"]], {"a": ["b"]}, "a", [1]]
    parts = ["a", ["a"], {"a": "b"}, {"b": ["c"]}, [{"b": ["c"]}], [], {}, True, [True], 1.0]
    producer.batch_enqueue(map(Json, wholes))
    for part in parts:
        contains = Message.payload.contains(cast(part, JSONB))
        ids = session.scalars(select(Message.id).where(contains).order_by(Message.id))
        found = testing.enqueued(session, "q", containing=Json(part))
        assert [message.id for message in found] == list(ids), part
    producer.enqueue("0", headers={"n": 1, "m": [True]})
    assert testing.enqueued(session, "q", headers={"n": 1.0, "m": [True]})
    for headers in ({"n": True, "m": [True]}, {"n": 1, "m": [1]}, {"n": 1}):
        testing.assert_not_enqueued(session, "q", headers=headers)


def test_a_typed_payload_says_its_type(session: Session, producer: Producer) -> None:
    """Another one with the same fields is not it, unless a type is given beside."""
    sent = producer.enqueue(Letter(number=7))
    for whole in (Parcel(number=7), expectation.ANY):
        part = None if whole is not expectation.ANY else Parcel(number=7)
        with pytest.raises(AssertionError, match=r"no message with .*message_type='parcel'"):
            testing.assert_enqueued(session, "q", whole, containing=part)
        found = testing.enqueued(session, "q", whole, containing=part, message_type="letter")
        assert [message.id for message in found] == [sent.id]
    assert testing.assert_enqueued(session, "q", Parcel(number=7).model_dump()).id == sent.id


def test_a_queue_is_given_by_name_or_as_it_is(host: Engine, admin: Admin, url: URL) -> None:
    """As the fixture gives it: to each function that wants one."""
    queue = admin.get_queue("q")
    assert testing.enqueued(host, queue) == []
    testing.assert_not_enqueued(host, queue)
    with pytest.raises(AssertionError, match="queue 'q' is empty"):
        testing.assert_enqueued(host, queue)

    async def main() -> None:
        engine = create_async_engine(url)
        assert await aio.enqueued(engine, queue) == []
        await aio.assert_not_enqueued(engine, queue)
        with pytest.raises(AssertionError, match="queue 'q' is empty"):
            await aio.assert_enqueued(engine, queue)
        await engine.dispose()

    asyncio.run(main())


def test_a_failed_assertion_lists_what_is_there(session: Session, producer: Producer) -> None:
    """What was looked for, and each message with all that can be looked for."""
    with pytest.raises(AssertionError, match=r"no message with any payload: queue 'q' is empty"):
        testing.assert_enqueued(session, "q")
    first = producer.enqueue({"id": 1}).id
    second = producer.enqueue(Parcel(number=7), delay=60, headers={"a": 1}).id
    parcel = f"  message {second} (created): {{'number': 7}}, message_type='parcel'"
    parcel += ", delay=60.0, headers={'a': 1}"
    with pytest.raises(AssertionError) as told:
        testing.assert_enqueued(session, "q", {"id": 2}, priority=3)
    assert str(told.value).splitlines() == [
        "no message with payload={'id': 2}, priority=3: queue 'q' has",
        f"  message {first} (created): {{'id': 1}}",
        parcel,
    ]
    with pytest.raises(AssertionError) as told:
        testing.assert_not_enqueued(session, "q", containing={"number": 7})
    assert str(told.value).splitlines() == [
        "a message with containing={'number': 7}: queue 'q' has",
        parcel,
    ]
    producer.batch_enqueue(range(30))
    with pytest.raises(AssertionError, match="and 12 more"):
        testing.assert_enqueued(session, "q", {"id": 31})
    with pytest.raises(pgqrs.QueueNotFoundError):
        testing.assert_not_enqueued(session, "none")


def test_on_an_engine_all_of_it_is_committed(host: Engine, config: pgqrs.Config) -> None:
    """Without a transaction it works on what is there; a host's sessions are its own."""
    with Producer(config, "q") as producer:
        producer.enqueue("1", delay=60)

    def handler(message: QueueMessage, own: Session) -> None:
        own.add(Order(id=message.payload))

    sessions = sessionmaker(host)
    assert testing.work(config, "q", handler, session=sessions).completed == 0
    testing.move_clock(host, 60)
    assert testing.work(config, "q", handler, session=sessions).completed == 1
    testing.assert_not_enqueued(config, "q")
    assert ask(host, "SELECT id FROM orders") == 1


@pytest.mark.matrix
def test_the_asyncio_twins_do_the_same(host: Engine, url: URL) -> None:
    """With coroutine functions, in the transaction of an AsyncSession that is rolled back."""

    async def main() -> None:
        engine = create_async_engine(url)
        async with aio.rolled_back(engine) as session:
            producer = pgqrs.aio.AsyncProducer(session, "q")

            async def handler(message: QueueMessage, own: AsyncSession) -> None:
                own.add(Order(name=str(message.payload)))
                if message.payload == 2:
                    raise RuntimeError("no")

            await producer.batch_enqueue([1, 2])
            await producer.enqueue(3, delay=60)
            sessions = async_sessionmaker(engine)
            report = await aio.work(session, "q", handler, session=sessions)
            assert (report.completed, report.failed) == (1, 1)
            await aio.move_clock(session, 60)
            await aio.assert_enqueued(session, "q", 3)
            assert (await aio.work(session, "q", answer_later, at_most=1)).completed == 1
            await aio.assert_not_enqueued(session, "q", 3)
            assert len(await aio.enqueued(session, "q")) == 1
            assert list(await session.scalars(select(Order.name))) == ["1"]
            with pytest.raises(TypeError, match=r"pgqrs\.testing\.work"):
                await aio.work(session, "q", lambda *_: None, session=sessionmaker(host))
            await session.commit()
        await engine.dispose()

    asyncio.run(main())
    assert ask(host, "SELECT count(*) FROM orders") == 0
    assert ask(host, "SELECT count(*) FROM pgqrs.pgqrs_messages") == 0


async def answer_later(message: QueueMessage) -> int:
    """Answer after another task has had its turn."""
    await asyncio.sleep(0)
    return message.id


def test_coroutine_functions_work_without_asyncio(session: Session, producer: Producer) -> None:
    """On an event loop for the occasion; with sessions, or in a loop, the twin is named."""
    sent = producer.enqueue("1")
    assert testing.work(session, "q", answer_later).completed == 1
    assert session.scalar(select(Archive.output)) == sent.id
    with pytest.raises(TypeError, match=r"pgqrs\.testing\.aio"):
        testing.work(session, "q", answer_later, session=async_sessionmaker())

    async def main() -> None:
        testing.work(session, "q", answer_later)

    with pytest.raises(TypeError, match=r"running event loop.*pgqrs\.testing\.aio"):
        asyncio.run(main())
    assert testing.work(session, "q", answer_later) == pgqrs.Report()


@pytest.mark.parametrize("name", testing.__all__)
def test_each_function_has_a_twin(name: str) -> None:
    """Its parameters are the same, and it is to be awaited."""
    ours, twin = getattr(testing, name), getattr(aio, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(twin).parameters)
    assert inspect.iscoroutinefunction(twin) == (name != "rolled_back")
    assert sorted(aio.__all__) == sorted(testing.__all__)
