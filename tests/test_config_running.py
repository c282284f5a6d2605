"""What the settings of retries, waiting and running do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import pytest
from settings import shows
from sqlalchemy import Engine
from waiting import ask, crowd, until, wait_for

from pgqrs import Admin, Config, Consumer, Producer


@shows("retry_delay_seconds", "retry_delay_max_seconds", "retry_backoff")
@pytest.mark.parametrize(
    ("backoff", "first", "second"), [(False, (99, 100), (99, 100)), (True, (79, 120), (119, 180))]
)
def test_retry_delay(
    dsn: str,
    admin: Admin,
    engine: Engine,
    backoff: bool,  # noqa: FBT001
    first: tuple[int, int],
    second: tuple[int, int],
) -> None:
    """A failed attempt delays the next: always as long, or twice as long up to the longest."""
    admin.create_queue("q")
    wait = "SELECT extract(epoch FROM vt - clock_timestamp()) FROM pgqrs.pgqrs_messages"
    come = "UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s' RETURNING 1"
    config = Config.from_dsn(
        dsn, retry_delay_seconds=100, retry_delay_max_seconds=150, retry_backoff=backoff
    )
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue({})
        for least, most in (first, second):
            message = consumer.dequeue()
            assert message is not None
            assert not consumer.fail(message, "no")
            assert least < ask(engine, wait) <= most
            ask(engine, come)


class Waiting:
    """A consumer that waits in a thread for a message that is not there yet."""

    def __init__(self, config: Config, engine: Engine, start: Callable[..., Any]) -> None:
        self.consumer = Consumer(config, "q")
        self.got: list[Any] = []
        start(1, lambda: self.got.append(self.consumer.poll()))
        wait_for(engine, LOOKED)

    def has_got_one(self) -> bool:
        return self.got not in ([], [None])

    def end(self) -> None:
        self.consumer.stop()
        until(lambda: self.got)
        self.consumer.close()


LOOKED: Final = (
    "SELECT least(count(*), 1) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query ILIKE 'WITH me AS%' AND state = 'idle'"
)
LISTENING: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
)


@shows("poll_interval_seconds")
@pytest.mark.parametrize(("interval", "often"), [(0.02, True), (3600, False)])
def test_poll_interval(
    dsn: str,
    admin: Admin,
    engine: Engine,
    interval: float,
    often: bool,  # noqa: FBT001
) -> None:
    """Who waits without notifications looks again after that time, and not before."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, poll_interval_seconds=interval, enable_listen_notify=False)
    with Producer(config, "q") as producer, crowd() as start:
        waiting = Waiting(config, engine, start)
        producer.enqueue({})
        if often:
            until(waiting.has_got_one)
        waiting.end()
    assert waiting.has_got_one() is often


@shows("enable_listen_notify")
@pytest.mark.parametrize("enabled", [False, True])
def test_listen_notify(dsn: str, admin: Admin, engine: Engine, enabled: bool) -> None:  # noqa: FBT001
    """Who waits is woken by an enqueue, long before it would look again; or it only looks."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, poll_interval_seconds=3600, enable_listen_notify=enabled)
    with Producer(config, "q") as producer, crowd() as start:
        waiting = Waiting(config, engine, start)
        producer.enqueue({})
        if enabled:
            until(waiting.has_got_one)
        else:
            assert ask(engine, LISTENING) == 0
        waiting.end()
    assert waiting.has_got_one() is enabled


@shows("prefetch_count")
@pytest.mark.parametrize("prefetch", [0, 3])
def test_prefetch_count(dsn: str, admin: Admin, engine: Engine, prefetch: int) -> None:
    """A running worker holds what its handlers have, and so many more."""
    admin.create_queue("q")
    locked_rows = "SELECT count(*) FROM pgqrs.pgqrs_messages WHERE state = 2"
    config = Config.from_dsn(dsn, prefetch_count=prefetch)
    hold, held = threading.Event(), threading.Event()

    def handle(_: Any) -> None:
        held.set()
        hold.wait(10)

    with (
        Producer(config, "q") as producer,
        Consumer(config, "q") as consumer,
        crowd() as start,
    ):
        producer.batch_enqueue([{}] * 20)
        start(1, lambda: consumer.run(handle))
        assert held.wait(10)
        wait_for(engine, locked_rows, 1 + prefetch)
        consumer.stop()
        hold.set()


@shows("shutdown_timeout_seconds")
def test_shutdown_timeout(dsn: str, admin: Admin) -> None:
    """A running worker that is told to stop waits that long for its handlers, and no longer."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, shutdown_timeout_seconds=0.1)
    hold, held = threading.Event(), threading.Event()

    def handle(_: Any) -> None:
        held.set()
        hold.wait(20)

    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue({})
        with crowd() as start:
            start(1, lambda: consumer.run(handle))
            assert held.wait(10)
            consumer.stop()
        assert not hold.is_set()
        hold.set()
