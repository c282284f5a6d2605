"""pgqrs's own engines in the hands of a host: as a bind, and for statements of its own."""

from __future__ import annotations

import asyncio
import threading

from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from waiting import ask, until

from pgqrs import Admin, Config, Consumer, Producer, engines
from pgqrs.aio import AsyncAdmin, AsyncConsumer


def test_a_bind_for_everything(admin: Admin) -> None:
    """Also for what needs an engine apart: polling, running, beating."""
    admin.create_queue("q")
    with Producer(admin.pool, "q") as producer, Consumer(admin.pool, "q") as consumer:
        producer.batch_enqueue(range(3))
        message = consumer.poll(timeout=20)
        assert message is not None
        consumer.archive(message)
        seen: list[int] = []

        def handler(message: object) -> None:
            seen.append(message.payload)  # type: ignore[attr-defined]
            if len(seen) == 2:
                consumer.stop()

        assert consumer.run(handler).completed == 2
        assert seen == [1, 2]


def test_a_transaction_that_was_left_open_is_nobody_elses(admin: Admin, engine: Engine) -> None:
    """Its connection is replaced: nothing is rolled back where nothing should be open."""
    admin.create_queue("q")
    with admin.pool.connect() as connection:
        connection.exec_driver_sql("BEGIN")
    with Producer(admin.pool, "q") as producer:
        producer.enqueue({})
    assert ask(engine, "SELECT count(*) FROM pgqrs.pgqrs_messages") == 1


def test_statements_of_the_host(admin: Admin) -> None:
    """With parameters, percent signs and colons, at once and streamed."""
    numbers = text("SELECT n, '5 %', 'a:b', '%s' LIKE '%' FROM generate_series(1, :most) n")
    with admin.pool.connect() as connection:
        assert connection.execute(numbers, {"most": 2}).all()[1] == (2, "5 %", "a:b", True)
    streaming = admin.pool.execution_options(yield_per=100, isolation_level="READ COMMITTED")
    with streaming.connect() as connection:
        assert len(connection.execute(numbers, {"most": 1000}).all()) == 1000


def test_streams_of_asyncio(config: Config) -> None:
    """Likewise."""
    assert asyncio.run(streamed(config)) == 1000


async def streamed(config: Config) -> int:
    async with AsyncAdmin(config) as admin, admin.pool.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        rows = await connection.stream(text("SELECT generate_series(1, :most)"), {"most": 1000})
        return len(await rows.all())


def test_threads_share_it(admin: Admin) -> None:
    """As any engine."""
    admin.create_queue("q")
    with Producer(admin.pool, "q") as producer:
        threads = [
            threading.Thread(target=lambda: [producer.enqueue({}) for _ in range(20)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert admin.queue_metrics("q").pending == 80


BEATS = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE heartbeat_at > started_at"


def brisk(dsn: str) -> Config:
    return Config.from_dsn(dsn, heartbeat_interval_seconds=0.05, stale_after_seconds=1)


def test_heartbeats_beside_psycopg2(admin: Admin, engine: Engine, dsn: str) -> None:
    """A lease that was taken on an engine of psycopg2 is kept alive by that driver."""
    admin.create_queue("q")
    host = create_engine(engine.url.set(drivername="postgresql+psycopg2"))
    with Producer(dsn, "q") as producer, Consumer(host, "q", config=brisk(dsn)) as consumer:
        producer.enqueue(1)
        assert consumer.dequeue() is not None
        until(lambda: ask(engine, BEATS))
    host.dispose()


def test_heartbeats_beside_asyncpg(admin: Admin, engine: Engine, dsn: str) -> None:
    """A lease that was taken on an engine of asyncpg is kept alive by psycopg, in a thread."""
    admin.create_queue("q")
    url = engine.url.set(drivername="postgresql+asyncpg").update_query_dict({"ssl": "disable"})

    async def main() -> None:
        host = create_async_engine(url)
        async with AsyncConsumer(host, "q", config=brisk(dsn)) as consumer:
            with Producer(dsn, "q") as producer:
                producer.enqueue(1)
            assert await consumer.dequeue() is not None
            await asyncio.to_thread(until, lambda: ask(engine, BEATS))
        await host.dispose()

    asyncio.run(main())


def test_what_only_asyncpg_understands_is_left_out() -> None:
    """The URL of an engine of asyncpg leads psycopg to the same place, by the same TLS."""
    given = "postgresql+asyncpg://ann:s3cret@h:5/app?ssl=verify-full&timeout=3"
    engine = engines.beside(make_url(f"{given}&statement_cache_size=0&passfile=/p"))
    found = engine.url.render_as_string(hide_password=False)
    same = "postgresql+psycopg://ann:s3cret@h:5/app?"
    assert found == f"{same}connect_timeout=3&passfile=%2Fp&sslmode=verify-full"


PLANNED = text("SELECT :n + 0")
PLANS = text(
    "SELECT custom_plans, generic_plans FROM pg_prepared_statements"
    " WHERE statement LIKE 'SELECT $1%'"
)


def test_plans_of_a_run_are_made_once(config: Config) -> None:
    """For any values, from when psycopg prepares: few statements are sent, and again and again."""
    engine = engines.single(config)
    with engine.connect() as connection:
        for number in range(8):
            connection.execute(PLANNED, {"n": number}).all()
        ((custom, generic),) = connection.execute(PLANS).all()
        assert (custom, generic > 0) == (0, True)
    engine.dispose()
