"""The asyncio classes: the same surface, the same behaviour, awaited."""

from __future__ import annotations

import asyncio
import inspect
import threading
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from sqlalchemy import URL, Engine, QueuePool, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from waiting import BLOCKED, locked, wait_for

import pgqrs
from pgqrs import Admin, Config, Consumer, NewMessage, Producer, Runner, WorkerHandle, aio
from pgqrs.aio import AsyncAdmin, AsyncConsumer, AsyncProducer, AsyncRunner, AsyncWorkerHandle
from pgqrs.aio.boss import AsyncClient, AsyncClientBuilder
from pgqrs.boss import Client, ClientBuilder

pytestmark = pytest.mark.matrix

TWINS = [
    (Admin, AsyncAdmin),
    (Producer, AsyncProducer),
    (Consumer, AsyncConsumer),
    (Runner, AsyncRunner),
    (WorkerHandle, AsyncWorkerHandle),
    (pgqrs.PgqrsClient, aio.AsyncPgqrsClient),
    (pgqrs.ClientAdmin, aio.AsyncClientAdmin),
    (pgqrs.ClientProducer, aio.AsyncClientProducer),
    (pgqrs.ClientConsumer, aio.AsyncClientConsumer),
]
BOSS_TWINS = [(Client, AsyncClient), (ClientBuilder, AsyncClientBuilder)]
WITHOUT_IO = {"within", "add", "rate_limit_status"}
WITHOUT_IO |= {"admin", "producer", "consumer", "builder", "schema", "url"}


def public(cls: type) -> dict[str, Any]:
    return {name: getattr(cls, name) for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize(("sync", "twin"), TWINS + BOSS_TWINS, ids=lambda cls: cls.__name__)
def test_the_twins_have_the_same_surface(sync: type, twin: type) -> None:
    """What a sync class offers, its twin does with the same parameters, awaited where it sends."""
    ours, theirs = public(sync), public(twin)
    assert ours.keys() == theirs.keys()
    for name, member in ours.items():
        if isinstance(member, property):
            assert isinstance(theirs[name], property), name
            continue
        assert parameters(member) == parameters(theirs[name]), name
        assert inspect.iscoroutinefunction(theirs[name]) == (name not in WITHOUT_IO), name
    assert parameters(sync) == parameters(twin)


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def test_every_twin_is_public() -> None:
    """`pgqrs.aio` offers a twin of each class that works on a queue, and nothing else."""
    assert set(aio.__all__) == {twin.__name__ for _, twin in TWINS}
    assert set(aio.boss.__all__) == {twin.__name__ for _, twin in BOSS_TWINS}


@pytest.fixture
def async_engine(url: URL) -> AsyncEngine:
    return create_async_engine(url)


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def test_a_message_lives_its_life(config: Config) -> None:
    """Install, create, enqueue, lease, extend, release, archive, delete, measure: all awaited."""

    async def main() -> None:
        async with AsyncAdmin(config) as admin:
            await admin.install()
            assert await admin.verify() == []
            await admin.create_queue("tasks")
            async with AsyncProducer(config, "tasks") as p, AsyncConsumer(config, "tasks") as c:
                sent = await p.enqueue({"a": 1}, priority=5)
                batch = await p.batch_enqueue(range(2500))
                assert [m.payload for m in batch] == list(range(2500))
                assert [m.id for m in batch] == sorted(m.id for m in batch)
                message = await c.dequeue()
                assert message is not None
                assert (message.id, message.payload) == (sent.id, {"a": 1})
                assert (await c.extend_visibility(message, 300)).vt > message.vt
                assert (await c.archive(message.id, output=[1])).output == [1]
                leased = await c.dequeue_batch(6)
                assert await c.archive_batch([*leased[:2], 999_999]) == [True, True, False]
                assert await c.delete_batch(leased[2:4]) == [True, True]
                await c.delete(leased[4])
                await c.release(leased[5], delay=60)
                with pytest.raises(pgqrs.LeaseLostError):
                    await c.archive(leased[5])
            metrics = await admin.queue_metrics("tasks", exact=True)
            assert (metrics.pending, metrics.delayed, metrics.archived) == (2494, 1, 3)
            with pytest.raises(pgqrs.QueueNotEmptyError):
                await admin.delete_queue("tasks")
            await admin.delete_queue("tasks", force=True)
            assert await admin.list_queues() == []

    run(main)


def test_within_a_session_of_the_hosts(config: Config, async_engine: AsyncEngine) -> None:
    """A message exists only if the host's transaction does, and so does an archive."""

    async def main() -> None:
        admin = AsyncAdmin(async_engine, config)
        await admin.create_queue("q")
        producer = AsyncProducer(async_engine, "q", config=config)
        consumer = AsyncConsumer(async_engine, "q", config=config)
        message = await producer.enqueue(1)
        leased = await consumer.dequeue()
        assert leased is not None
        make = async_sessionmaker(async_engine)
        async with make() as session:
            await producer.within(session).enqueue(2)
            await consumer.within(session).archive(leased)
            await session.rollback()
        metrics = await admin.queue_metrics("q")
        assert (metrics.pending, metrics.locked, metrics.archived) == (0, 1, 0)
        async with make.begin() as session:
            await producer.within(session).enqueue(3)
            await consumer.within(await session.connection()).archive(message.id)
        metrics = await admin.queue_metrics("q")
        assert (metrics.pending, metrics.locked, metrics.archived) == (1, 0, 1)
        await consumer.close()
        await producer.close()
        async with async_engine.connect() as connection:  # the host's engine is still its own
            assert await connection.scalar(text("SELECT 1")) == 1
        await async_engine.dispose()

    run(main)


def test_a_session_as_bind_is_within_it(config: Config, async_engine: AsyncEngine) -> None:
    """Bound to an AsyncSession every call acts in its transaction; nothing is committed."""

    async def main() -> None:
        async with AsyncAdmin(async_engine, config) as admin:
            await admin.create_queue("q")
        async with AsyncSession(async_engine) as session:
            sent = await AsyncProducer(session, "q", config=config).enqueue(1)
            assert sent.producer_worker_id is None
            got = await AsyncConsumer(session, "q", config=config).dequeue()
            assert got is not None
            assert got.id == sent.id
            assert session.in_transaction()
            await session.rollback()
        async with AsyncAdmin(async_engine, config) as admin:
            assert (await admin.queue_metrics("q")).total_messages == 0
        await async_engine.dispose()

    run(main)


def test_sync_objects_are_refused_with_the_right_class_named(config: Config, admin: Admin) -> None:
    """A sync engine in an asyncio class is a TypeError that says what to use."""
    with pytest.raises(TypeError, match=r"use the class of pgqrs, such as Producer"):
        AsyncProducer(admin.pool, "q", config=config)
    with pytest.raises(TypeError, match="int"):
        AsyncConsumer(5, "q", config=config)


def test_many_tasks_share_one_worker(config: Config, admin: Admin) -> None:
    """Fifty tasks that start at once on one queue end with one live worker of each role."""
    admin.create_queue("q")

    async def main() -> None:
        async with AsyncProducer(config, "q") as p, AsyncConsumer(config, "q") as c:
            await asyncio.gather(*(p.enqueue(n) for n in range(50)))
            leased = await asyncio.gather(*(c.dequeue() for _ in range(50)))
            ids = [message.id for message in leased if message is not None]
            assert len(set(ids)) == 50
            assert await c.archive_batch(ids) == [True] * 50
            with admin.pool.connect() as connection:
                alive = text("SELECT count(*) FROM pgqrs.pgqrs_workers WHERE shutdown_at IS NULL")
                assert connection.scalar(alive) == 2

    run(main)


def test_a_blocked_loop_does_not_silence_the_heartbeat(dsn: str, admin: Admin) -> None:
    """While the event loop is blocked, a consumer that holds a lease still beats."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, heartbeat_interval_seconds=0.05)

    async def main() -> None:
        async with AsyncProducer(config, "q") as p, AsyncConsumer(config, "q") as c:
            await p.enqueue(1)
            assert await c.dequeue() is not None
            before = admin_sees(admin, c.worker_id)
            # From here to the end of the loop nothing is awaited: the loop is blocked.
            for _ in range(200):
                if admin_sees(admin, c.worker_id) > before:
                    break
                threading.Event().wait(0.05)
            assert admin_sees(admin, c.worker_id) > before

    run(main)


def admin_sees(admin: Admin, worker_id: int | None) -> Any:
    assert worker_id is not None
    return pgqrs.Workers(admin).get(worker_id).heartbeat_at


def test_one_object_serves_several_loops(config: Config, admin: Admin) -> None:
    """Connections belong to a loop; an object used in a second loop gets connections there."""
    admin.create_queue("q")
    producer = AsyncProducer(config, "q")

    async def send() -> None:
        await producer.enqueue(1)
        await producer.enqueue(2)  # which owes a notification when the loop is closed

    run(send)
    run(send)
    run(producer.close)
    assert admin.queue_metrics("q").pending == 4


@pytest.mark.parametrize("driver", ["pgqrs", "psycopg", "asyncpg"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("several", [False, True])
def test_a_cancelled_call_gives_its_connection_back(
    config: Config,
    admin: Admin,
    engine: Engine,
    driver: str,
    times: int,
    several: bool,  # noqa: FBT001
) -> None:
    """Of pgqrs's pool and a host's, from a single statement and from a transaction of several."""
    admin.create_queue("q")
    keyed = NewMessage(1, singleton_key="a", singleton_for=60, message_id=uuid.uuid4())
    url = engine.url.set(drivername=f"postgresql+{driver}")

    async def main() -> None:
        host = create_async_engine(url) if driver != "pgqrs" else None
        async with AsyncProducer(host or config, "q") as producer, AsyncAdmin(producer) as pool:
            await producer.enqueue(0)
            with locked(engine):
                task = asyncio.create_task(producer.enqueue(keyed if several else 1))
                await asyncio.to_thread(wait_for, engine, BLOCKED)
                for _ in range(times):
                    task.cancel()
                    await asyncio.sleep(0)
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert cast("QueuePool", pool.pool.pool).checkedout() == 0
            await producer.enqueue(2)
        if host is not None:
            await host.dispose()

    run(main)
    pending = admin.queue_metrics("q").pending
    assert pending == 2 if several else pending in {2, 3}  # the server may have gone on


def test_closed_means_closed(config: Config, admin: Admin) -> None:
    """After close, an operation is InvalidStateError, and closing again is nothing."""
    admin.create_queue("q")

    async def main() -> None:
        producer = AsyncProducer(config, "q")
        await producer.enqueue(1)
        await producer.close()
        await producer.close()
        with pytest.raises(pgqrs.InvalidStateError):
            await producer.enqueue(2)

    run(main)


def test_leaving_the_block_gives_back(config: Config, admin: Admin) -> None:
    """A clean end releases what is held; an exception leaves the lease to run out."""
    admin.create_queue("q")

    async def main(*, fail: bool) -> None:
        async with AsyncProducer(config, "q") as producer, AsyncConsumer(config, "q") as consumer:
            await producer.enqueue(1)
            assert await consumer.dequeue() is not None
            if fail:
                raise LookupError

    asyncio.run(main(fail=False))
    assert admin.queue_metrics("q").pending == 1
    with pytest.raises(LookupError):
        asyncio.run(main(fail=True))
    metrics = admin.queue_metrics("q")
    assert (metrics.pending, metrics.locked) == (1, 1)
