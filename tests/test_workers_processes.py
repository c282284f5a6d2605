"""Processes that end without a word, and processes that fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import Any, Final

import pytest
from sqlalchemy import Engine, text
from waiting import ask

from pgqrs import Admin, Producer, QueueInfo

ROWS: Final = "SELECT count(*) FROM pgqrs.pgqrs_workers"
RUNNING: Final = f"{ROWS} WHERE shutdown_at IS NULL"
PATIENCE: Final = 60
PREAMBLE: Final = """
import asyncio, json, os, signal, sys, threading
from sqlalchemy import create_engine, text
from pgqrs import *
from pgqrs.aio import AsyncProducer

DSN = os.environ["DSN"]
config = Config.from_dsn(DSN, heartbeat_interval_seconds=0.02)
"""


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> QueueInfo:
    return admin.create_queue("q")


def start(script: str, dsn: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(script)],
        env={**os.environ, "DSN": dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script: str, dsn: str, status: int = 0) -> str:
    """Run a script to its end; gives what it printed."""
    with start(script, dsn) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, err
    return out


SCRIPTS: Final = {
    "at the top": """
        producer, consumer = Producer(config, "q"), Consumer(config, "q")
        producer.enqueue({})
        consumer.dequeue()
        """,
    "in a function": """
        def main():
            Producer(config, "q").enqueue({})
            Consumer(config, "q").dequeue()
        main()
        """,
    "on an engine": """
        engine = create_engine(config.url)
        def main():
            Producer(engine, "q", config=config).enqueue({})
            Consumer(engine, "q", config=config).dequeue()
        main()
        """,
    "with an address": """
        def main():
            Producer(config, "q", "h", 1).enqueue({})
            Consumer(config, "q", "h", 1).dequeue()
        main()
        """,
    "in threads": """
        def work():
            Producer(config, "q").enqueue({})
            Consumer(config, "q").dequeue()
        threads = [threading.Thread(target=work) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        """,
    "by an error": """
        Producer(config, "q").enqueue({})
        consumer = Consumer(config, "q")
        consumer.dequeue()
        raise SystemExit(0) from ZeroDivisionError()
        """,
    "under asyncio": """
        async def main():
            await AsyncProducer(config, "q").enqueue({})
        asyncio.run(main())
        Consumer(config, "q").dequeue()
        """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_script_that_closes_nothing(script: str, dsn: str, engine: Engine, admin: Admin) -> None:
    """A script that ends without closing anything leaves no worker that looks alive.

    What it held stays leased until the lease runs out, as after a crash.
    """
    run(script, dsn)
    assert ask(engine, ROWS) > 0
    assert ask(engine, RUNNING) == 0
    assert admin.queue_metrics("q").locked > 0


def test_uncaught_error(dsn: str, engine: Engine) -> None:
    """An uncaught error is shown as it is, and the worker is stopped all the same."""
    script = """
        Producer(config, "q").enqueue({})
        1 / 0
        """
    with start(script, dsn) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert ask(engine, RUNNING) == 0


def test_server_away_at_the_end(dsn: str) -> None:
    """A script whose server is gone when it ends still ends, and says nothing."""
    script = """
        from pgqrs.embedded import EmbeddedPostgres

        with EmbeddedPostgres(durable=False) as server:
            config = Config.from_dsn(server.dsn())
            admin = Admin(config)
            admin.install()
            admin.create_queue("q")
            Producer(config, "q").enqueue({})
            Consumer(config, "q").dequeue()
        """
    with start(script, dsn) as process:
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0


def test_short_scripts_leave_no_trail(dsn: str, engine: Engine) -> None:
    """Script after script, the row of the last one is all there is."""
    for _ in range(2):
        run(SCRIPTS["in a function"], dsn)
        assert ask(engine, ROWS) == 2
        with engine.begin() as connection:
            age = "UPDATE pgqrs.pgqrs_workers SET shutdown_at = shutdown_at - interval '1 hour'"
            connection.execute(text(age))


FORK: Final = """
def named():
    return sorted(thread.name for thread in threading.enumerate())

producer, consumer = Producer(config, "q"), Consumer(config, "q")
producer.batch_enqueue([1, 2, 3, 4])
held, other, late = consumer.dequeue_batch(3)

def session(worker):
    with worker.binding.engine.connect() as connection:
        return connection.scalar(text("SELECT pg_backend_pid()"))

before = session(producer)
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(30)
    told = {"threads": named(), "worker": consumer.worker_id}
    told["held"] = len(consumer._steps.ledger.fences())
    lost = []
    for message in (held, held.id, other, other.id):
        try:
            consumer.archive(message)
        except LeaseLostError:
            lost.append(True)
    told["lost"] = len(lost)
    told["batch"] = consumer.delete_batch([held, other.id])
    told["threads then"] = named()
    told["produced by"] = producer.enqueue(5).producer_worker_id
    told["leased"] = consumer.dequeue().id
    told["leased by"] = consumer.worker_id
    told["threads with a lease"] = named()
    told["session"] = session(producer)
    os.write(writing, json.dumps(told).encode())
    END
os.close(writing)
told = json.loads(os.read(reading, 10_000))
status = os.waitpid(child, 0)[1]
consumer.archive(held)
consumer.archive(other.id)
mine = {
    "held": held.id,
    "status": status,
    "produced by": producer.enqueue(6).producer_worker_id,
    "producer": producer.worker_id,
    "consumer": consumer.worker_id,
    "same session": session(producer) == before,
    "other session": told["session"] != before,
    "running": [worker.id for worker in Admin(config).workers() if worker.status == "ready"],
}
print(json.dumps([told, mine]))
consumer.archive(late)
consumer.close()
producer.close()
"""
ENDS: Final = {
    "sys.exit": "sys.exit()",
    "os._exit": "os._exit(0)",
    "close": "consumer.close(); producer.close(); sys.exit()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_fork(dsn: str, engine: Engine, end: str) -> None:
    """A forked child is a worker of its own, with no lease, no thread and none of our connections.

    However it ends, its parent goes on as if nothing had been: connections, leases and rows.
    """
    told, mine = json.loads(run(FORK.replace("END", end), dsn))
    assert (told["worker"], told["held"]) == (None, 0)
    assert (told["lost"], told["batch"]) == (4, [False, False])
    assert told["threads"] == told["threads then"] == ["MainThread"]
    assert told["threads with a lease"] == ["MainThread", "pgqrs-deadlines", "pgqrs-heartbeat"]
    assert told["leased"] not in {mine["held"], None}
    workers: set[Any] = {told["produced by"], told["leased by"], mine["producer"], mine["consumer"]}
    assert len(workers) == 4
    assert mine["produced by"] == mine["producer"]
    assert mine["same session"]
    assert mine["other session"]
    assert mine["status"] == 0
    assert {mine["producer"], mine["consumer"]} <= set(mine["running"])
    stopped = end != "os._exit(0)"
    assert ({told["produced by"], told["leased by"]} & set(mine["running"]) == set()) is stopped
    assert ask(engine, RUNNING) == (0 if stopped else 2)


BUSY: Final = """
producer, consumer = Producer(config, "q"), Consumer(config, "q")
over = threading.Event()

def work():
    while not over.is_set():
        producer.enqueue({})
        for message in consumer.dequeue_batch(2):
            consumer.archive(message)

threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
statuses = set()
for _ in range(15):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        producer.enqueue({"child": True})
        Producer(config, "q", "child", os.getpid()).enqueue({})
        consumer.dequeue()
        os._exit(0)
    statuses.add(os.waitpid(child, 0)[1])
over.set()
[thread.join() for thread in threads]
consumer.close()
producer.close()
print(statuses)
"""


def test_fork_while_threads_work(dsn: str) -> None:
    """Whatever other threads are in the middle of, a child is not blocked by it."""
    assert run(BUSY, dsn) == "{0}\n"


REGISTERING: Final = """
producer = Producer(config, "q")
thread = threading.Thread(target=producer.enqueue, args=(1,))
with create_engine(config.url).connect() as lock:
    lock.execute(text("LOCK TABLE pgqrs.pgqrs_workers IN ACCESS EXCLUSIVE MODE"))
    thread.start()
    while not lock.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
        pass
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        producer.enqueue(2)
        os._exit(0)
    lock.rollback()
print(os.waitpid(child, 0)[1])
thread.join()
producer.close()
"""


def test_fork_while_a_thread_registers(dsn: str, engine: Engine) -> None:
    """A child of a process that is just registering registers by itself."""
    assert run(REGISTERING, dsn) == "0\n"
    query = "SELECT count(DISTINCT producer_worker_id) FROM pgqrs.pgqrs_messages"
    assert ask(engine, query) == 2


def test_parent_is_not_stopped_by_its_child(dsn: str, admin: Admin) -> None:
    """A child that never used what it inherited leaves its parent's workers alone."""
    script = """
        producer = Producer(config, "q")
        producer.enqueue({})
        if os.fork() == 0:
            sys.exit()
        os.wait()
        print(Admin(config).workers()[0].status)
        producer.enqueue({})
        """
    assert run(script, dsn) == "ready\n"
    with Producer(admin, "q") as producer:
        assert producer.enqueue({}).id == 3
