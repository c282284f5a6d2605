"""What type checkers must see of the asyncio classes; never run, only checked."""

from typing import assert_type

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

import pgqrs
from pgqrs.aio import (
    AsyncAdmin,
    AsyncConsumer,
    AsyncPgqrsClient,
    AsyncProducer,
    AsyncRunner,
)
from pgqrs.types import Finding


async def admin(config: pgqrs.Config) -> None:
    async with AsyncAdmin(config) as admin:
        assert_type(admin, AsyncAdmin)
        assert_type(await admin.install(), str)
        assert_type(await admin.create_queue("q"), pgqrs.QueueInfo)
        assert_type(await admin.list_queues(), list[pgqrs.QueueInfo])
        assert_type(await admin.purge_queue("q"), int)
        assert_type(await admin.queue_metrics("q"), pgqrs.QueueMetrics)
        assert_type(await admin.diagnose(fix=True), list[Finding])
        assert_type(await admin.grant("producer", "app", dry_run=True), str)
        assert_type(await admin.revoke("app"), str)
        assert_type(await admin.bump_ids(), dict[str, int])
        assert_type(await admin.system_stats(), pgqrs.SystemStats)
        assert_type(admin.pool, AsyncEngine)
        assert_type(await admin.get_message(1), pgqrs.MessageInfo)
        assert_type(await admin.cancel_messages([1, 2]), list[bool])
        await admin.retry_messages(1)
        assert_type(await admin.replay(1), pgqrs.QueueMessage)
        assert_type(await admin.replay([1]), list[pgqrs.QueueMessage | None])


async def producer(engine: AsyncEngine, session: AsyncSession) -> None:
    async with AsyncProducer(engine, "q") as producer:
        assert_type(producer, AsyncProducer)
        assert_type(producer.within(session), AsyncProducer)
        message = await producer.enqueue({"a": 1})
        assert_type(message, pgqrs.QueueMessage)
        assert_type(await producer.enqueue_delayed(1, 2), pgqrs.QueueMessage)
        assert_type(await producer.batch_enqueue([1]), list[pgqrs.QueueMessage])
        new = pgqrs.NewMessage(1, priority=2)
        skipped = await producer.batch_enqueue([new], on_conflict="skip", retain_for=60)
        assert_type(skipped, list[pgqrs.QueueMessage | None])
        assert_type(await producer.batch_enqueue([1], atomic=False), int)
        assert_type(await producer.extend_visibility(message, 5), pgqrs.QueueMessage)
        assert_type(producer.rate_limit_status(), pgqrs.RateLimitStatus | None)


async def consumer(config: pgqrs.Config, connection: AsyncConnection) -> None:
    async with AsyncConsumer(config, "q") as consumer:
        assert_type(consumer, AsyncConsumer)
        assert_type(consumer.within(connection), AsyncConsumer)
        assert_type(await consumer.dequeue(), pgqrs.QueueMessage | None)
        messages = await consumer.dequeue_batch(10)
        assert_type(messages, list[pgqrs.QueueMessage])
        assert_type(await consumer.archive(messages[0]), pgqrs.ArchivedMessage)
        assert_type(await consumer.archive_batch(messages), list[bool])
        archived, leased = await consumer.archive_and_dequeue(messages, 2)
        assert_type(archived, list[bool])
        assert_type(leased, list[pgqrs.QueueMessage])
        assert_type(await consumer.delete_batch(messages), list[bool])
        assert_type(await consumer.extend_visibility(1, 5), pgqrs.QueueMessage)
        assert_type(await consumer.release(messages), list[bool])
        await consumer.release(messages[0])
        await consumer.delete(messages[0])


async def runner(config: pgqrs.Config, maker: async_sessionmaker[AsyncSession]) -> None:
    async with AsyncRunner(config) as runner:
        assert_type(runner, AsyncRunner)
        runner.add("r", print, session=maker)
        runner.add("q", print, batch_size=10)
        assert_type(await runner.run(), pgqrs.Report)


class Email(pgqrs.Message):
    to: str


async def client(config: pgqrs.Config) -> None:
    async with AsyncPgqrsClient(config) as client:
        assert_type(await client.admin().create_queue("q", views=True), pgqrs.QueueInfo)
        assert_type(await client.producer().enqueue("q", {"a": 1}), int)
        assert_type(await client.producer().batch_enqueue("q", [1, 2]), list[int])
        consumer, how = client.consumer(), pgqrs.ReadOptions()
        assert_type(await consumer.read("q", how, Email), pgqrs.QueueMessage[Email] | None)
        assert_type(await consumer.read_batch("q", how), list[pgqrs.QueueMessage])
        assert_type(await consumer.archive("q", 1), pgqrs.ArchivedMessage)
        assert_type(await consumer.dequeue_batch("q", [1]), list[bool])
