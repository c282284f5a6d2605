"""`run` when things break: restarts, silence, signals."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from lossy import lossy
from sqlalchemy import URL, Engine, text
from waiting import crowd, locked, until

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer, QueueMessage
from pgqrs.embedded import EmbeddedPostgres

WORKER = """
import sys, time
import pgqrs
config = pgqrs.Config.from_dsn(sys.argv[1], shutdown_timeout_seconds=10)

def handler(message):
    if message.payload == 0:
        print("started", flush=True)
    time.sleep(message.payload == 0 and 1 or 0.02)
    return message.payload

with pgqrs.Consumer(config, "q") as consumer:
    report = consumer.run(handler, concurrency=2, prefetch=20)
print(report.completed, report.returned, report.still_running, flush=True)
"""


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, with durable settings: it is going to crash."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture
def own_config(server: EmbeddedPostgres) -> Config:
    """The tables and a queue on that server."""
    config = Config.from_dsn(server.dsn(), default_lock_time_seconds=2, poll_interval_seconds=0.2)
    with Admin(config) as admin:
        admin.install()
        admin.create_queue("q")
    return config


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarts_under_load(
    server: EmbeddedPostgres, own_config: Config, mode: str
) -> None:
    """After each of three restarts the work resumes by itself, and all is settled once."""
    seen: list[int] = []

    def handler(message: QueueMessage) -> int:
        seen.append(message.payload)
        time.sleep(0.001)
        return int(message.payload)

    with Producer(own_config, "q") as producer, Consumer(own_config, "q") as consumer:
        producer.batch_enqueue(range(3000))
        work = threading.Thread(target=consumer.run, args=(handler,), kwargs={"concurrency": 4})
        work.start()
        for part in (1, 2, 3):
            until(lambda least=part * 600: len(seen) >= least, seconds=60)
            server.restart(mode)
        with Admin(own_config) as admin:
            until(lambda: admin.queue_metrics("q").total_messages == 0, seconds=60)
            kept = pgqrs.Archive(admin).list(limit=5000)
        consumer.stop()
        work.join(30)
    assert sorted(message.output for message in kept) == list(range(3000))
    assert set(seen) == set(range(3000))


def test_the_connection_goes_silent(dsn: str, admin: Admin) -> None:
    """A connection whose other end stopped answering is given up after the query timeout."""
    admin.create_queue("q")
    config = Config.from_dsn(
        dsn,
        query_timeout_seconds=0.5,
        connection_timeout_seconds=2,
        poll_interval_seconds=0.1,
        default_lock_time_seconds=2,
    )
    stopped: list[int] = []
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        work = threading.Thread(target=consumer.run, args=(lambda _: None,))
        work.start()
        producer.enqueue(1)
        until(lambda: admin.queue_metrics("q").archived == 1)
        with admin.pool.connect() as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            leasing = text(f"{query} AND query LIKE 'WITH %' AND pid <> pg_backend_pid()")
            stopped = list(connection.execute(leasing).scalars())
        assert stopped
        for pid in stopped:  # its backend neither answers nor ends
            signal_backend(pid, signal.SIGSTOP)
        try:
            producer.enqueue(2)
            until(lambda: admin.queue_metrics("q").archived == 2)
        finally:
            for pid in stopped:
                signal_backend(pid, signal.SIGCONT)
            consumer.stop()
            work.join(20)


def signal_backend(pid: int, number: int) -> None:
    subprocess.run(["kill", f"-{int(number)}", str(pid)], check=True)


def outages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the levels of the lines that say that the server is away, or back."""
    lines = [record for record in caplog.records if record.message.startswith("the server is")]
    return [record.levelname for record in lines]


def test_an_outage_is_one_line(url: URL, admin: Admin, caplog: pytest.LogCaptureFixture) -> None:
    """Where connections are made and break at the first lease, one warning is written, not many."""
    caplog.set_level(logging.INFO, "pgqrs.run")
    admin.create_queue("q")
    with lossy(url) as (proxy, there), crowd() as start:
        for _ in range(4):
            proxy.lose(b"promoted", done=False)
        dsn = there.set(drivername="postgresql").render_as_string(hide_password=False)
        with Producer(admin, "q") as producer, Consumer(dsn, "q") as consumer:
            producer.enqueue(1)
            start(1, lambda: consumer.run(lambda _: None))
            until(lambda: admin.queue_metrics("q").archived == 1)
            assert proxy.is_spent
            consumer.stop()
    assert outages(caplog) == ["WARNING", "INFO"]


def test_a_statement_that_takes_too_long(
    dsn: str, admin: Admin, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """When others lock a table for longer than the query timeout, the run goes on after that."""
    caplog.set_level(logging.INFO, "pgqrs.run")
    admin.create_queue("q")
    config = Config.from_dsn(dsn, query_timeout_seconds=0.3, poll_interval_seconds=0.1)
    with Consumer(config, "q") as consumer, Producer(admin, "q") as producer, crowd() as start:
        start(1, lambda: consumer.run(lambda _: None))
        producer.enqueue(1)
        until(lambda: admin.queue_metrics("q").archived == 1)
        with locked(engine):
            until(lambda: outages(caplog))
        producer.enqueue(2)
        until(lambda: admin.queue_metrics("q").archived == 2)
        consumer.stop()
    assert outages(caplog) == ["WARNING", "INFO"]


def test_what_ran_out_before_it_started_is_not_started(url: URL, admin: Admin) -> None:
    """A message leased ahead whose lease ran out in an outage is left to whoever has it now."""
    admin.create_queue("q")
    go = threading.Event()
    seen: list[int] = []

    def handler(message: QueueMessage) -> None:
        seen.append(message.payload)
        assert go.wait(20)

    with lossy(url) as (proxy, there), Producer(admin, "q") as producer, crowd() as start:
        dsn = there.set(drivername="postgresql").render_as_string(hide_password=False)
        config = Config.from_dsn(dsn, query_timeout_seconds=1, default_lock_time_seconds=0.5)
        producer.batch_enqueue([1, 2, 3])
        with Consumer(config, "q") as slow, Consumer(admin, "q", "another", 1) as other:
            start(1, lambda: slow.run(handler, prefetch=2))
            until(lambda: seen and admin.queue_metrics("q").locked == 3)
            proxy.silence()
            taken: list[QueueMessage] = []
            until(lambda: taken.extend(other.dequeue_batch(3)) or len(taken) == 3)
            go.set()
            producer.enqueue(4)
            until(lambda: admin.queue_metrics("q").archived == 1)
            slow.stop()
    assert seen == [1, 4]


def test_sigterm_ends_a_worker_in_good_order(dsn: str, admin: Admin) -> None:
    """It exits by itself: what ran is settled, what waited is given back, nothing is leased."""
    admin.create_queue("q")
    with Producer(admin, "q") as producer:
        producer.batch_enqueue(range(2000))
    command = [sys.executable, "-c", WORKER, dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        worker.terminate()
        out, _ = worker.communicate(timeout=30)
        assert worker.returncode == 0
    completed, _returned, running = out.split(maxsplit=2)
    assert running == "[]\n"
    metrics = admin.queue_metrics("q")
    assert metrics.locked == 0
    assert metrics.archived == int(completed) >= 1
    assert metrics.pending == 2000 - int(completed)
    assert 0 in [message.output for message in pgqrs.Archive(admin).list(limit=2000)]
    assert all(message.attempts == 0 for message in pgqrs.Messages(admin).list(limit=2000))
    stopped = [worker.status for worker in admin.workers("q") if worker.role == "consumer"]
    assert stopped == [pgqrs.WorkerStatus.STOPPED]


def test_a_killed_worker_loses_nothing(dsn: str, admin: Admin) -> None:
    """After SIGKILL in the middle, what it held is handled by another when its leases run out."""
    admin.create_queue("q", visibility_timeout=1)
    with Producer(admin, "q") as producer:
        producer.batch_enqueue(range(300))
    command = [sys.executable, "-c", WORKER, dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        worker.kill()
    assert admin.queue_metrics("q").total_messages > 0
    with Consumer(admin, "q") as consumer:
        work = threading.Thread(target=consumer.run, args=(lambda m: m.payload,))
        work.start()
        until(lambda: admin.queue_metrics("q").total_messages == 0, seconds=60)
        consumer.stop()
        work.join(20)
    outputs = [message.output for message in pgqrs.Archive(admin).list(limit=2000)]
    assert sorted(outputs) == list(range(300))
