"""pgqrs's own engines in the hands of a host: as a bind, and for statements of its own."""

from __future__ import annotations

import asyncio
import threading

from sqlalchemy import text

from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.aio import AsyncAdmin


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
