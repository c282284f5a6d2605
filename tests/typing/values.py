"""What type checkers must see of the values, the configuration and the repositories."""

import datetime as dt
from collections.abc import Collection
from pathlib import Path
from typing import Any, assert_type

from sqlalchemy import URL, select
from sqlalchemy.orm import Session

import pgqrs
from pgqrs import models


def message(message: pgqrs.QueueMessage) -> None:
    assert_type(message.id, int)
    assert_type(message.payload, Any)
    assert_type(message.vt, dt.datetime)
    assert_type(message.dequeued_at, dt.datetime | None)
    assert_type(message.consumer_worker_id, int | None)
    assert_type(message.attempts, int)
    message.id = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def others(
    archived: pgqrs.ArchivedMessage, queue: pgqrs.QueueInfo, metrics: pgqrs.QueueMetrics
) -> None:
    assert_type(archived.status, str)
    assert_type(archived.archived_at, dt.datetime)
    assert_type(archived.output, Any)
    assert_type(queue.archive_mode, pgqrs.ArchiveMode)
    assert_type(queue.visibility_timeout, dt.timedelta | None)
    assert_type(metrics.total_messages, int)
    assert_type(metrics.oldest_pending_age, dt.timedelta | None)


def rate_limit(status: pgqrs.RateLimitStatus) -> None:
    assert_type(status.limit, float)
    assert_type(status.burst, int)
    assert_type(status.available, float)
    assert_type(status.retry_after, dt.timedelta | None)


def config() -> None:
    config = pgqrs.Config.from_dsn("postgresql://localhost/mydb", schema="jobs")
    assert_type(config, pgqrs.Config)
    assert_type(pgqrs.Config.from_env(), pgqrs.Config)
    assert_type(pgqrs.Config.from_file(Path("pgqrs.yaml")), pgqrs.Config)
    assert_type(pgqrs.Config.load(schema="jobs"), pgqrs.Config)
    assert_type(config.url, URL)
    assert_type(config.schema_, str)
    assert_type(config.max_attempts, int)
    rules = pgqrs.ValidationConfig(max_depth=3, forbidden_keys={"password"}, required_keys=["id"])
    assert_type(config.validation, pgqrs.ValidationConfig)
    assert_type(config.max_enqueue_per_second, float | None)
    assert_type(config.max_enqueue_burst, int | None)
    assert_type(rules.max_string_length, int | None)
    assert_type(rules.forbidden_keys, Collection[str])
    pgqrs.ValidationConfig(max_depht=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def repositories(config: pgqrs.Config) -> None:
    assert_type(pgqrs.Queues(config).get(1), pgqrs.QueueInfo)
    assert_type(pgqrs.Queues(config).get_by_name("q"), pgqrs.QueueInfo)
    assert_type(pgqrs.Queues(config).exists("q"), bool)
    assert_type(pgqrs.Workers(config).list(), list[pgqrs.WorkerInfo])
    assert_type(pgqrs.Messages(config).filter_by_fk(1), list[pgqrs.QueueMessage])
    assert_type(pgqrs.Messages(config).update(1, priority=3), pgqrs.QueueMessage)
    assert_type(pgqrs.Archive(config).count_by_fk(1), int)
    assert_type(pgqrs.Archive(config).delete(1), bool)
    with pgqrs.Queues(config) as queues:
        assert_type(queues.count(), int)


def reading(session: Session, message: models.Message, queue: models.Queue) -> None:
    assert_type(session.scalars(select(models.Message)).one(), models.Message)
    assert_type(message.queue, models.Queue)
    assert_type(message.consumer, models.Worker | None)
    assert_type(queue.archive, list[models.Archive])
    assert_type(queue.dead_letter_queue, models.Queue | None)
    for name, late in session.execute(select(models.Queue.queue_name, models.Message.vt)):
        assert_type(name, str)
        assert_type(late, dt.datetime)


def settings() -> None:
    group = pgqrs.QueueConfig(max_attempts=3)
    config = pgqrs.Config(database=pgqrs.DatabaseConfig(host="h"), queue=group)
    assert_type(config, pgqrs.Config)
    assert_type(pgqrs.Config.explain("postgresql://localhost/d"), list[pgqrs.Setting])
    assert_type(pgqrs.Config.explain()[0].origin, str)
