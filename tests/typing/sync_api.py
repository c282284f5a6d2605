"""What type checkers must see of the sync classes; never run, only checked by mypy and pyright."""

import datetime as dt
from typing import Any, assert_type

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker

import pgqrs
from pgqrs.types import Finding


def admin(config: pgqrs.Config, engine: Engine) -> None:
    with pgqrs.Admin(config) as admin:
        assert_type(admin, pgqrs.Admin)
        assert_type(admin.install(), str)
        assert_type(admin.uninstall(dry_run=True), str)
        assert_type(admin.verify(), list[Finding])
        assert_type(admin.create_queue("q", archive_mode="meta"), pgqrs.QueueInfo)
        assert_type(admin.update_queue("q", visibility_timeout=1.5), pgqrs.QueueInfo)
        assert_type(admin.get_queue("q"), pgqrs.QueueInfo)
        assert_type(admin.list_queues(), list[pgqrs.QueueInfo])
        assert_type(admin.pause_queue("q"), pgqrs.QueueInfo)
        assert_type(admin.resume_queue("q"), pgqrs.QueueInfo)
        assert_type(admin.purge_queue("q"), int)
        assert_type(admin.purge_archive(older_than=dt.timedelta(days=1)), int)
        assert_type(admin.queue_metrics("q"), pgqrs.QueueMetrics)
        assert_type(admin.diagnose(fix=True), list[Finding])
        assert_type(admin.grant(pgqrs.Access.CONSUMER, "app"), str)
        assert_type(admin.revoke("app", dry_run=True), str)
        assert_type(admin.bump_ids(), dict[str, int])
        assert_type(admin.system_stats(exact=True), pgqrs.SystemStats)
        assert_type(admin.all_queues_metrics(exact=True), list[pgqrs.QueueMetrics])
        assert_type(admin.system_stats(), pgqrs.SystemStats)
        assert_type(admin.archived_after("q", 17), list[pgqrs.ArchivedMessage])
        assert_type(admin.erase_archived("q", [1]), int)
        assert_type(admin.erase_archived("q", containing={"user": 1}), int)
        assert_type(admin.pool, Engine)
        assert_type(admin.get_message(1), pgqrs.MessageInfo)
        assert_type(admin.get_message(1).state, pgqrs.MessageState)
        assert_type(admin.messages("q"), list[pgqrs.MessageInfo])
        admin.cancel_messages(1)
        assert_type(admin.cancel_messages([1, 2]), list[bool])
        assert_type(admin.resume_messages(iter([1])), list[bool])
        assert_type(admin.retry_messages({1}), list[bool])
        assert_type(admin.fail_messages([1], "why"), list[bool])
        assert_type(admin.archive_messages([1], "skipped", force=True), list[bool])
        assert_type(admin.delete_messages([1], force=True), list[bool])
        assert_type(admin.release_messages([1]), list[bool])
        assert_type(admin.replay(1), pgqrs.QueueMessage)
        assert_type(admin.replay([1, 2]), list[pgqrs.QueueMessage | None])
        assert_type(admin.dead_letters("q"), list[pgqrs.ArchivedMessage])
        assert_type(admin.update_queue("q", dead_letter="d").dead_letter, str | None)
        assert_type(admin.replay_dead_letters("d", limit=5), int)
        admin.delete_queue("q", force=True)
    pgqrs.Admin(engine)
    pgqrs.Admin("postgresql://localhost/mydb")


def producer(config: pgqrs.Config, queue: pgqrs.QueueInfo, session: Session) -> None:
    pgqrs.Producer(config, "q", "localhost", 3000, config)
    with pgqrs.Producer(config, queue) as producer:
        assert_type(producer, pgqrs.Producer)
        assert_type(producer.within(session), pgqrs.Producer)
        assert_type(producer.worker_id, int | None)
        assert_type(producer.queue, str)
        message = producer.enqueue({"a": 1}, priority=1, delay=1, max_attempts=2)
        assert_type(message, pgqrs.QueueMessage)
        assert_type(producer.enqueue_delayed('{"a": 1}', dt.timedelta(1)), pgqrs.QueueMessage)
        assert_type(producer.batch_enqueue([1, 2]), list[pgqrs.QueueMessage])
        assert_type(producer.batch_enqueue(iter([1]), atomic=False), int)
        new = pgqrs.NewMessage({"a": 1}, singleton_for=5, headers={"a": 1})
        assert_type(producer.enqueue(new, expire_in=5, message_id="1"), pgqrs.QueueMessage)
        assert_type(producer.enqueue(1, on_conflict="skip"), pgqrs.QueueMessage | None)
        assert_type(
            producer.batch_enqueue([new], on_conflict="skip"), list[pgqrs.QueueMessage | None]
        )
        producer.enqueue(1, prority=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        assert_type(message.headers, Any)
        assert_type(producer.extend_visibility(message, 5), pgqrs.QueueMessage)
        assert_type(producer.extend_visibility(message.id, 5), pgqrs.QueueMessage)
        assert_type(producer.rate_limit_status(), pgqrs.RateLimitStatus | None)
        producer.heartbeat()


def consumer(config: pgqrs.Config, connection: Connection) -> None:
    with pgqrs.Consumer(config, "q") as consumer:
        assert_type(consumer, pgqrs.Consumer)
        assert_type(consumer.within(connection), pgqrs.Consumer)
        assert_type(consumer.dequeue(), pgqrs.QueueMessage | None)
        assert_type(consumer.dequeue(vt=dt.timedelta(seconds=3)), pgqrs.QueueMessage | None)
        messages = consumer.dequeue_batch(10, vt=3)
        assert_type(messages, list[pgqrs.QueueMessage])
        assert_type(consumer.archive(messages[0]), pgqrs.ArchivedMessage)
        assert_type(consumer.archive(1, "failed", output=[1]), pgqrs.ArchivedMessage)
        assert_type(consumer.archive_batch(messages), list[bool])
        archived, leased = consumer.archive_and_dequeue(messages, 2)
        assert_type(archived, list[bool])
        assert_type(leased, list[pgqrs.QueueMessage])
        assert_type(consumer.archive_batch([1, messages[0]]), list[bool])
        assert_type(consumer.delete_batch([1]), list[bool])
        assert_type(consumer.extend_visibility(1, by=5), pgqrs.QueueMessage)
        consumer.delete(messages[0])


def runner(config: pgqrs.Config, maker: sessionmaker[Session]) -> None:
    with pgqrs.Runner(config) as runner:
        assert_type(runner, pgqrs.Runner)
        runner.add("r", print, session=maker)
        runner.add("r", print, session=Session)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        runner.add("q", print, concurrency=2, prefetch=3, timeout=dt.timedelta(seconds=9))
        assert_type(runner.run(), pgqrs.Report)
        assert_type(runner.report, pgqrs.Report)
        runner.add(1, print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def release(consumer: pgqrs.Consumer, messages: list[pgqrs.QueueMessage]) -> None:
    assert_type(consumer.release(messages), list[bool])
    assert_type(consumer.release((1, 2), delay=5), list[bool])
    consumer.release(messages[0])
    consumer.release(7, delay=dt.timedelta(minutes=1))
    consumer.release("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


def errors(error: pgqrs.PgqrsError) -> None:
    assert_type(error.retryable, bool)
    if isinstance(error, pgqrs.LeaseLostError):
        assert_type(error.message_id, int)
    elif isinstance(error, pgqrs.PayloadError):
        assert_type(error.path, str | None)
        assert_type(error.index, int | None)
    elif isinstance(error, pgqrs.RateLimitedError):
        assert_type(error.retry_after, dt.timedelta)
        assert_type(error.queue, str)
    elif isinstance(error, pgqrs.InvalidConfigError):
        assert_type(error.field, str)
        assert_type(error.source, str)
    elif isinstance(error, pgqrs.QueueNotEmptyError):
        assert_type(error.messages, int)
    elif isinstance(error, pgqrs.DatabaseError):
        assert_type(error.sqlstate, str | None)


class Email(pgqrs.Message):
    to: str


def client(config: pgqrs.Config) -> None:
    with pgqrs.PgqrsClient(config) as client:
        options = pgqrs.CreateQueueOptions("q", views=True, max_attempts=3)
        assert_type(client, pgqrs.PgqrsClient)
        assert_type(client.admin().create_queue(options), pgqrs.QueueInfo)
        assert_type(client.producer().enqueue("q", {"a": 1}, priority=3), int)
        assert_type(client.producer().batch_enqueue("q", [1, 2]), list[int])
        assert_type(client.producer().enqueue_delayed("q", 1, dt.timedelta(1)), int)
        consumer, how = client.consumer(), pgqrs.ReadOptions(lock_time=5, count=10)
        assert_type(consumer.read("q"), pgqrs.QueueMessage | None)
        assert_type(consumer.read("q", how, Email), pgqrs.QueueMessage[Email] | None)
        assert_type(consumer.read_batch("q", how), list[pgqrs.QueueMessage])
        assert_type(consumer.read_batch("q", type=Email), list[pgqrs.QueueMessage[Email]])
        consumer.dequeue("q", 1)
        assert_type(consumer.dequeue_batch("q", [1]), list[bool])
        assert_type(consumer.archive("q", 1), pgqrs.ArchivedMessage)
        assert_type(consumer.archive_batch("q", [1]), list[bool])
        assert_type(consumer.extend_lock("q", 1, 30), pgqrs.QueueMessage)
    assert_type(pgqrs.PgqrsAdmin(config), pgqrs.Admin)
