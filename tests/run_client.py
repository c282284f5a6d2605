"""A process that runs handlers, and writes down what is sent and what is handled.

What the run sends is seen on its way: the product knows nothing of it. The process can be told to
kill itself at a point of its work.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from history import LOST, OK, Fence, Lease, Log
from history_client import instant
from sqlalchemy import Connection
from tapping import tap

from pgqrs import Config, Consumer, PgqrsError, Producer, QueueMessage
from pgqrs.operations.lease import found

QUEUE = "history"
LIMIT = 50
LEASES = {"n", "default_timeout"}
LEADS = {"me", "term"}
KINDS = {
    "archive": {"outcomes"},
    "fail": {"waits"},
    "release": {"mids", "phase"},
    "extend": {"mids", "spans"},
}
"""Which parameters the statements of a run have."""
POINTS = {
    "before a lease": ("before", "lease"),
    "a lease came back": ("after", "lease"),
    "a handler runs": ("start", "handler"),
    "before an acknowledgement": ("before", "archive"),
    "after an acknowledgement": ("after", "archive"),
    "before a failure is said": ("before", "fail"),
    "after a failure is said": ("after", "fail"),
    "before an extension": ("before", "extend"),
    "after an extension": ("after", "extend"),
    "before giving back": ("before", "release"),
    "after giving back": ("after", "release"),
    "maintenance begins": ("after", "lead"),
}
"""Where a worker process can kill itself."""


@dataclass(frozen=True)
class Orders:
    """What a worker process is to do: the time a handler takes, and where it is to die."""

    seconds: float = 0.002
    concurrency: int = 4
    lease: float = 2
    timeout: float = 5
    """Seconds that a statement may take, or a connection."""
    shutdown: float = 30
    """Seconds that it may take to end."""
    forks: int = 0
    """At how many messages the handler forks."""
    fatal: str = ""
    reached: int = 3
    """How often it reaches that point, the last included."""


def fails_at_first(key: str) -> bool:
    """Say whether the first attempt at this message fails: one of ten."""
    return key.endswith("7")


class Death:
    """Kills the process when it has reached a point often enough."""

    def __init__(self, point: tuple[str, str] | None, reached: int) -> None:
        self._point = point
        self._left = reached
        self._lock = threading.Lock()

    def at(self, *point: str) -> None:
        if point == self._point:
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)


class Tap:
    """Writes down each statement about leases, and its answer when there is one.

    One statement may be two operations, so leases have a log of their own.
    """

    def __init__(self, path: Path, death: Death) -> None:
        self._log, self._leases = Log(path), Log(leases_of(path))
        self._death = death
        self._path = path
        tap(self._before, self._after)

    def move(self) -> Log:
        """Write into files of this process from now on: it was forked."""
        path = self._path.with_stem(f"{self._path.stem}-{os.getpid()}")
        self._log, self._leases = Log(path), Log(leases_of(path))
        return self._log

    def _before(self, connection: Connection, given: Mapping[str, Any]) -> None:
        leases, kind = kinds_of(given)
        if leases:
            self._leases.begin("lease", worker=given["worker"], size=given["n"])
            self._death.at("before", "lease")
        if kind:
            until = now_of(connection) + instant_span(given) if kind == "extend" else 0
            self._log.begin(kind, worker=given["worker"], fences=fences_of(given), until=until)
            self._death.at("before", kind)

    def _after(self, connection: Connection, given: Mapping[str, Any], rows: Any) -> None:
        leases, kind = kinds_of(given)
        if set(given) == LEADS:
            self._death.at("after", "lead")
        messages = found(rows).messages if leases else []
        if messages:
            self._death.at("after", "lease")
        if kind:
            self._death.at("after", kind)
            if leases:  # the last column has the ids of those that held, or nothing for all
                ids = rows[0][-1]
                held = {fence for fence in fences_of(given) if ids is None or fence.id in ids}
            else:
                held = {Fence(*row[:2]) for row in rows}
            self._log.end(outcomes=[OK if fence in held else LOST for fence in fences_of(given)])
        if leases:
            vain = 0 if messages else now_of(connection)
            self._leases.end(leases=[lease_of(message) for message in messages], vain=vain)


def leases_of(path: Path) -> Path:
    """Give where the leases of a client are written down."""
    return path.with_suffix(".leases")


def fences_of(given: Mapping[str, Any]) -> list[Fence]:
    return [Fence(*fence) for fence in zip(given["mids"], given["rcs"], strict=True)]


def kinds_of(given: Mapping[str, Any]) -> tuple[bool, str]:
    """Say whether a statement leases, and what else it does."""
    names = set(given)
    kind = next((kind for kind, needed in KINDS.items() if needed <= names), "")
    return names >= LEASES, kind


def lease_of(message: QueueMessage) -> Lease:
    span = instant(message.dequeued_at), instant(message.vt)
    return Lease(message.id, message.read_ct, message.payload["key"], *span)


def now_of(connection: Connection) -> int:
    """Ask the server for the time; if it does not answer, it is long ago."""
    raw: Any = connection.connection.driver_connection
    try:
        row = raw.execute("SELECT clock_timestamp()").fetchone()
    except psycopg.Error:
        return 0
    return instant(row[0])


def instant_span(given: Mapping[str, Any]) -> int:
    return round(min(given["spans"]) * 1_000_000)


class Forking:
    """Children of a process that is at work: each enqueues, leases, and ends without a word."""

    def __init__(self, tap: Tap, consumer: Consumer, count: int, failed: Path) -> None:
        self._failed = failed
        self._tap = tap
        self._consumer = consumer
        self._producer = Producer(consumer, QUEUE)
        self._left = count

    def at(self, message: QueueMessage) -> None:
        """Fork in the middle of a handler, if there is to be another child."""
        if self._left <= 0:
            return
        self._left -= 1
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            self._end(message)
        if os.waitpid(child, 0)[1]:
            self._failed.write_text("a forked child failed")

    def _end(self, message: QueueMessage) -> None:
        """Live as a child, and end whatever happens."""
        status = 1
        try:
            status = 0 if self._lives(message) else 1
        except PgqrsError:  # where the server is in trouble, as for everybody
            status = 0
        finally:
            os._exit(status)

    def _lives(self, message: QueueMessage) -> bool:
        log = self._tap.move()
        keys = [f"{os.getpid()}-{number}" for number in range(5)]
        log.begin("enqueue", keys=keys)
        log.end(ids=[m.id for m in self._producer.batch_enqueue([{"key": key} for key in keys])])
        self._consumer.dequeue_batch(3)
        return self._consumer.archive_batch([message]) == [False]  # it is the parent's


class Handler:
    """Says that it began, takes its time, and says that it is done."""

    def __init__(self, log: Log, orders: Orders, death: Death, forking: Forking) -> None:
        self._log, self._orders, self._death, self._forking = log, orders, death, forking
        self.threads = self.descriptors = 0

    def __call__(self, message: QueueMessage) -> Any:
        lease = lease_of(message)
        worker = message.consumer_worker_id or 0
        self._log.note("start", worker, lease)
        self._death.at("start", "handler")
        self._forking.at(message)
        self.threads = max(self.threads, threading.active_count())
        self.descriptors = max(self.descriptors, len(list(Path("/dev/fd").iterdir())))
        time.sleep(self._orders.seconds)
        if message.attempts == 1 and fails_at_first(lease.key):
            raise LookupError(lease.key)
        self._log.note("return", worker, lease)
        return {"id": message.id, "read_ct": message.read_ct}


def work(dsn: str, path: Path, orders: Orders) -> None:
    """Run a handler until told to stop by SIGTERM."""
    logging.basicConfig(filename=path.with_suffix(".log"), level=logging.INFO)
    config = Config.from_dsn(
        dsn,
        max_attempts=LIMIT,
        default_lock_time_seconds=orders.lease,
        retry_delay_seconds=0.05,
        retry_backoff=False,
        poll_interval_seconds=0.2,
        shutdown_timeout_seconds=orders.shutdown,
        query_timeout_seconds=orders.timeout,
        connection_timeout_seconds=orders.timeout,
        cleanup_interval_seconds=0.5,  # so that faults meet maintenance too
    )
    death = Death(POINTS.get(orders.fatal), orders.reached)
    tap = Tap(path, death)
    with Consumer(config, QUEUE) as consumer:
        forking = Forking(tap, consumer, orders.forks, path.with_suffix(".err"))
        handler = Handler(Log(path.with_suffix(".deeds")), orders, death, forking)
        report = consumer.run(handler, concurrency=orders.concurrency)
    said = {
        "still_running": report.still_running,
        "threads": handler.threads,
        "descriptors": handler.descriptors,
    }
    path.with_suffix(".end").write_text(json.dumps(said))


def run(entry: Callable[..., None], dsn: str, path: Path, *arguments: Any) -> None:
    """Be a client: the entry of a process of its own."""
    try:
        entry(dsn, path, *arguments)
    except BaseException:
        path.with_suffix(".err").write_text(traceback.format_exc())
        raise
