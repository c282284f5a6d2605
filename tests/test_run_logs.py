"""`run` logs attempts that failed, with fields, and nothing of those that went well."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from waiting import until

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer, QueueMessage


def worked(
    config: Config, admin: Admin, handler: Callable[[Any], Any], payloads: Iterable[Any], **how: Any
) -> None:
    """Work messages that have one attempt each, until none is left."""
    admin.create_queue("q")
    with Producer(admin, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(payloads, max_attempts=1)
        thread = threading.Thread(target=consumer.run, args=(handler,), kwargs=how)
        thread.start()
        try:
            until(lambda: admin.queue_metrics("q").total_messages == 0)
        finally:
            consumer.stop()
            thread.join(20)


def fields(record: logging.LogRecord) -> tuple[Any, Any, Any]:
    return tuple(getattr(record, name) for name in ("queue", "message_id", "attempt"))  # type: ignore[return-value]


def test_one_record_for_each_failed_attempt(
    config: Config, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that raises is a warning with exception, message and attempt; no other is."""

    def handler(message: QueueMessage) -> None:
        if message.payload == 7:
            raise LookupError("no seven")

    caplog.set_level(logging.INFO, "pgqrs.run")
    worked(config, admin, handler, range(100))
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    (dead,) = [each for each in pgqrs.Archive(admin).list() if each.status == "dead"]
    assert (record.levelname, record.name) == ("WARNING", "pgqrs.run")
    assert fields(record) == ("q", dead.id, 1)
    assert record.getMessage().endswith("of queue q failed: LookupError: no seven")
    assert record.exc_info is not None
    assert record.exc_info[2] is not None


def test_what_is_no_exception_of_the_handlers(
    config: Config, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    """Output that is no JSON and an overrun limit are failures too; Retry and Dead say enough."""

    async def handler(message: QueueMessage) -> Any:
        if message.payload == "slow":
            await asyncio.sleep(60)
        return {"set": {1}, "dead": pgqrs.Dead("no"), "retry": pgqrs.Retry()}[message.payload]

    payloads = [pgqrs.Json(name) for name in ("set", "dead", "retry", "slow")]
    worked(config, admin, handler, payloads, timeout=0.2)
    kinds = [record.exc_info[0].__name__ for record in caplog.records if record.exc_info]  # type: ignore[union-attr]
    assert kinds == ["PayloadError", "HandlerTimeoutError"]


def test_a_batch_that_failed_shows_its_trace_once(
    config: Config, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    """There is a record for each message, and only the first has the trace that they share."""

    def handler(_messages: list[QueueMessage]) -> None:
        raise LookupError

    worked(config, admin, handler, range(5), batch_size=5)
    assert len({fields(record) for record in caplog.records}) == 5
    assert [bool(record.exc_info) for record in caplog.records] == [True, *[False] * 4]
