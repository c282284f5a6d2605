"""Beats for who holds a lease: from one thread, on a connection of its own, and no others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import OperationalError
from waiting import ask, crowd, until

from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.operations import workers

INTERVAL: Final = 0.02


@pytest.fixture
def quick(dsn: str, admin: Admin) -> Config:
    """A configuration with a short interval; its queues have three messages each."""
    config = Config.from_dsn(dsn, heartbeat_interval_seconds=INTERVAL)
    for queue in ("q", "other"):
        admin.create_queue(queue)
        with Producer(admin, queue) as producer:
            producer.batch_enqueue([1, 2, 3])
    return config


@pytest.fixture
def holder(quick: Config) -> Iterator[Consumer]:
    """A consumer that holds a lease."""
    with Consumer(quick, "q") as consumer:
        assert consumer.dequeue() is not None
        yield consumer


def beat_of(engine: Engine, consumer: Consumer) -> Any:
    query = "SELECT heartbeat_at FROM pgqrs.pgqrs_workers WHERE id = :id"
    return ask(engine, query, id=consumer.worker_id)


def beats(engine: Engine, consumer: Consumer, times: int = 2) -> None:
    """Wait until a consumer has beaten so many times from now."""
    for _ in range(times):
        last = beat_of(engine, consumer)
        until(lambda last=last: beat_of(engine, consumer) > last)


def threads() -> int:
    return sum(thread.name == "pgqrs-heartbeat" for thread in threading.enumerate())


def test_holder_beats(engine: Engine, holder: Consumer) -> None:
    """Who holds a lease beats, without calling anything."""
    beats(engine, holder, 3)


def test_busy_main_thread(engine: Engine, holder: Consumer) -> None:
    """Beats go on while the main thread computes and calls nothing."""
    seen = threading.Event()

    def watch() -> None:
        beats(engine, holder, 3)
        seen.set()

    with crowd() as start:
        start(1, watch)
        while not seen.is_set():
            sum(number * number for number in range(1000))


def test_exhausted_pool(url: URL, engine: Engine, quick: Config) -> None:
    """Beats go on while the only connection of the host's pool is in use."""
    small = create_engine(url, pool_size=1, max_overflow=0)
    with Consumer(small, "q", config=quick) as consumer:
        assert consumer.dequeue() is not None
        with small.connect():
            beats(engine, consumer, 3)
    small.dispose()


def test_lease_within_a_transaction(url: URL, engine: Engine, quick: Config) -> None:
    """Beats go on for a lease that was taken in the caller's transaction too."""
    host = create_engine(url)
    with Consumer(quick, "q") as consumer, host.begin() as connection:
        assert consumer.within(connection).dequeue() is not None
        beats(engine, consumer)
    host.dispose()


def test_no_beats_for_nothing(engine: Engine, quick: Config, holder: Consumer) -> None:
    """Who holds nothing does not beat: before a lease, after the last, or when it ran out."""
    with Consumer(quick, "other") as idle:
        assert idle.dequeue() is not None
        beats(engine, idle)
        for finish in ("archive", "delete", "release"):
            held = idle._steps.ledger.fences() or idle.dequeue_batch(1)
            getattr(idle, finish)(idle._steps.ledger.fences()[0].message_id)
            assert len(held) == 1
            beats(engine, holder)  # and with them one that was under way
            last = beat_of(engine, idle)
            beats(engine, holder, 3)
            assert beat_of(engine, idle) == last
        assert idle.dequeue(vt=0.001) is not None
        until(lambda: not idle._steps.ledger.holds_any())
        beats(engine, holder)
        last = beat_of(engine, idle)
        beats(engine, holder, 3)
        assert beat_of(engine, idle) == last


def test_one_thread_that_ends(engine: Engine, quick: Config) -> None:
    """One thread beats for all consumers of an engine, and ends when the last of them closes."""
    before = threads()
    with Consumer(quick, "q") as one, Consumer(quick, "other") as other:
        assert threads() == before
        assert one.dequeue() is not None
        assert other.dequeue() is not None
        assert threads() == before + 1
        beats(engine, one)
        beats(engine, other)
    until(lambda: threads() == before)


def test_next_consumer_at_once(engine: Engine, quick: Config) -> None:
    """A consumer that leases just as the thread of the last one ends is beaten for all the same."""
    for _ in range(10):
        with Consumer(engine, "q", config=quick) as consumer:
            assert consumer.dequeue() is not None
        with Consumer(engine, "q", config=quick) as consumer:
            assert consumer.dequeue() is not None
            beats(engine, consumer, 1)


def test_shortest_interval_counts(engine: Engine, quick: Config, dsn: str) -> None:
    """On one engine beats are as frequent as any of its consumers wants them."""
    slow = Config.from_dsn(dsn, heartbeat_interval_seconds=3600)
    with (
        Consumer(engine, "other", config=slow) as patient,
        Consumer(engine, "q", config=quick) as hasty,
    ):
        assert patient.dequeue() is not None
        assert hasty.dequeue() is not None
        beats(engine, hasty)
        beats(engine, patient)


def test_close_that_never_leased(engine: Engine, dsn: str, quick: Config) -> None:
    """A consumer that closes without a lease starts no thread, and sets no interval for others."""
    slow = Config.from_dsn(dsn, heartbeat_interval_seconds=3600)
    before = threads()
    with Consumer(engine, "q", config=quick), Consumer(engine, "other", config=slow) as other:
        assert other.worker_id is None
    assert threads() == before


def test_restart(caplog: pytest.LogCaptureFixture) -> None:
    """Beats outlive a restart of the server; what fails meanwhile is said once, as is its end."""
    caplog.set_level(logging.INFO, "pgqrs.heartbeat")
    with EmbeddedPostgres(durable=False) as server:
        config = Config.from_dsn(server.dsn(), heartbeat_interval_seconds=INTERVAL)
        engine = create_engine(config.url, pool_pre_ping=True)
        with Admin(config) as admin, Producer(config, "q") as producer:
            admin.install()
            admin.create_queue("q")
            producer.enqueue({})
            with Consumer(config, "q") as consumer:
                assert consumer.dequeue() is not None
                beats(engine, consumer)
                server.restart()
                beats(engine, consumer)
        engine.dispose()
    assert [record.levelname for record in caplog.records] in ([], ["WARNING", "INFO"])


def test_failing_beats_are_said_once(
    engine: Engine,
    holder: Consumer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While beats fail there is one warning; when they reach the server again, one word of it."""
    caplog.set_level(logging.INFO, "pgqrs.heartbeat")
    failures: list[int] = []
    beat = workers.beat

    def failing(*given: Any) -> Any:
        if len(failures) < 4:
            failures.append(0)
            raise OperationalError("beat", {}, Exception("away"))
        return beat(*given)

    monkeypatch.setattr(workers, "beat", failing)
    until(lambda: len(failures) == 4)
    beats(engine, holder)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "will be tried again" in caplog.text
