"""What wakes a run: notifications, the poll, and listening again after a connection went silent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lossy import Lossy, lossy
from sqlalchemy import URL
from waiting import until

from pgqrs import Admin, Config, Consumer, Producer, QueueMessage
from pgqrs.ear import Ear

SOON = 20
"""Seconds: far less than the poll interval of those who wait for a notification."""


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> None:
    admin.create_queue("q")


@contextmanager
def working(config: Config, handler: Callable[[Any], Any], **options: Any) -> Iterator[Consumer]:
    """Run a handler in a thread, and stop it at the end."""
    with Consumer(config, "q") as consumer:
        thread = threading.Thread(target=consumer.run, args=(handler,), kwargs=options)
        thread.start()
        try:
            yield consumer
        finally:
            consumer.stop()
            thread.join(SOON)
            assert not thread.is_alive()


@contextmanager
def through_a_proxy(url: URL, **settings: Any) -> Iterator[tuple[Lossy, Config]]:
    with lossy(url) as (proxy, there):
        dsn = there.set(drivername="postgresql").render_as_string(hide_password=False)
        yield proxy, Config.from_dsn(dsn, poll_interval_seconds=60, **settings)


def is_waiting(consumer: Consumer) -> bool:
    """Say whether it looked, found nothing, and will not look again by itself for long."""
    loop = consumer._lineup._loop
    assert loop is not None
    return loop.lanes[0].patience.remaining() > SOON


def listened(proxy: Lossy) -> int:
    return sum(b"LISTEN" in request for request in list(proxy.requests))


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the levels of the lines that say that the server is away, or back."""
    lines = [record for record in caplog.records if record.message.startswith("the server is")]
    return [record.levelname for record in lines]


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_it_listens_again_after_silence(
    url: URL, admin: Admin, config: Config, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that swallows everything is given up, and a notification wakes the next one.

    What was handled meanwhile is settled once, and what was enqueued meanwhile is handled.
    """
    caplog.set_level(logging.INFO, "pgqrs.run")
    go = threading.Event()
    seen: list[int] = []

    def handler(message: QueueMessage) -> None:
        seen.append(message.payload)
        assert go.wait(SOON)

    settings = {"query_timeout_seconds": 0.5, "heartbeat_interval_seconds": 0.5}
    with (
        through_a_proxy(url, **settings) as (proxy, there),
        Producer(config, "q") as producer,
        working(there, handler, prefetch=0) as consumer,
    ):
        producer.enqueue(1)
        until(lambda: seen == [1])
        if state == "idle":
            go.set()
            until(lambda: admin.queue_metrics("q").archived == 1)
            until(lambda: is_waiting(consumer))
        assert proxy.silence() == 1
        producer.enqueue(2)
        go.set()
        until(lambda: admin.queue_metrics("q").archived == 2, SOON)
        assert listened(proxy) == 2
        producer.enqueue(3)
        until(lambda: admin.queue_metrics("q").archived == 3, SOON)
        assert listened(proxy) == 2, "that came by a notification"
    assert seen == [1, 2, 3]
    assert outages(caplog) == ["WARNING", "INFO"]


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_the_last_of_a_burst_wakes(dsn: str, admin: Admin, config: Config, state: str) -> None:
    """With a poll interval of a minute, all of a hundred messages in a row are handled at once."""
    slow = Config.from_dsn(dsn, poll_interval_seconds=60)
    go, started = threading.Event(), threading.Event()
    seen: list[int] = []

    def handler(message: QueueMessage) -> None:
        seen.append(message.payload)
        started.set()
        assert go.wait(SOON)

    with Producer(config, "q") as producer, working(slow, handler, prefetch=0):
        for first in (0, 100):
            if state == "idle":
                go.set()
            for number in range(first, first + 100):
                producer.enqueue(number)
            assert started.wait(SOON)
            go.set()
            until(lambda want=first + 100: admin.queue_metrics("q").archived == want, SOON)
            go.clear()
            started.clear()
    assert sorted(seen) == list(range(200))


def test_the_poll_finds_what_a_silent_producer_sent(dsn: str, admin: Admin) -> None:
    """A producer that does not notify is served at the poll interval of one who listens."""
    silent = Config.from_dsn(dsn, enable_listen_notify=False)
    listening = Config.from_dsn(dsn, poll_interval_seconds=0.2)
    with Producer(silent, "q") as producer, working(listening, lambda _: None):
        for number in (1, 2, 3):
            producer.enqueue(number)
            until(lambda want=number: admin.queue_metrics("q").archived == want, SOON)


def test_who_is_done_when_told_to_stop_waits_no_more(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was settled last ends the run at once."""
    waits: list[float] = []
    real = Ear.wait

    def wait(ear: Ear, seconds: float) -> set[str]:
        waits.append(seconds)
        return real(ear, seconds)

    monkeypatch.setattr(Ear, "wait", wait)
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue({})
        assert consumer.run(lambda _: consumer.stop()).completed == 1
    assert waits[-1] == 0
