"""A producer or consumer process that writes down all it does, until it is done or killed."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
from history import LOST, OK, Log

from pgqrs import Config, Consumer, LeaseLostError, Producer, QueueMessage

QUEUE = "history"
END = "end"
LIMIT = 4
LEASE = 0.75
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def instant(moment: dt.datetime | None) -> int:
    return 0 if moment is None else (moment - EPOCH) // dt.timedelta(microseconds=1)


def never_acknowledged(key: str) -> bool:
    """Say whether consumers let every lease of this message run out: one of a hundred."""
    return key.endswith("00")


def produce(
    config: Config, log: Log, chance: random.Random, names: Sequence[str], lines: int
) -> None:
    """Enqueue a message for each name, singly and in batches, some delayed; in lines, if any."""
    with Producer(config, QUEUE) as producer:
        place = 0
        while place < len(names):
            keys = list(names[place : place + chance.choice([1, 1, 10, 40, 80])])
            options: dict[str, Any] = {"priority": chance.choice([0, 0, 0, 1, -1])}
            options["delay"] = chance.choice([0, 0, 0, 0.2])
            group = str(chance.randrange(lines)) if lines else ""
            log.begin("enqueue", keys=keys, priority=options["priority"], group=group)
            if lines:
                options["ordering_key"] = group
            if len(keys) == 1:
                messages = [producer.enqueue({"key": keys[0]}, **options)]
            else:
                messages = producer.batch_enqueue([{"key": key} for key in keys], **options)
            log.end(ids=[m.id for m in messages], due=[instant(m.vt) for m in messages])
            place += len(keys)


class MortalLog(Log):
    """The log of a client that is killed soon after it has written `fatal` bytes, if that is said.

    The killing comes from a thread, at any point of what the client is doing.
    """

    def __init__(self, path: Path, chance: random.Random, fatal: int | None) -> None:
        super().__init__(path)
        self._left = fatal
        self._delay = chance.uniform(0, 0.02)

    def _write(self, record: dict[str, Any]) -> int:
        written = super()._write(record)
        if self._left is not None:
            self._left -= written
            if self._left <= 0:
                self._left = None
                kill = (os.getpid(), signal.SIGKILL)
                threading.Timer(self._delay, os.kill, kill).start()
        return written


class Taker:
    """Two consumer objects that share a worker row, and what they hold; `clock` is the server's."""

    def __init__(
        self, config: Config, log: Log, chance: random.Random, clock: psycopg.Connection
    ) -> None:
        self.log, self.chance, self.clock = log, chance, clock
        self.consumers = [Consumer(config, QUEUE), Consumer(config, QUEUE)]
        self.late: list[tuple[Consumer, list[QueueMessage]]] = []

    def work(self, end: Path) -> None:
        """Lease some messages and do something to them, again and again."""
        while not end.exists():
            consumer = self.chance.choice(self.consumers)
            messages = self.lease(consumer)
            if not messages:
                time.sleep(0.02)
            good = [m for m in messages if not never_acknowledged(m.payload["key"])]
            if good:
                self.finish(consumer, good)
            if self.late and self.chance.random() < 0.2:
                late, held = self.late.pop(self.chance.randrange(len(self.late)))
                self.many("archive", late.archive_batch, held)

    def lease(self, consumer: Consumer) -> list[QueueMessage]:
        size = self.chance.choice([1, 5, 20, 50, 50])
        self.log.begin("lease", size=size)
        messages = consumer.dequeue_batch(size, LEASE)
        spans = [(instant(m.dequeued_at), instant(m.vt)) for m in messages]
        leases = [
            (m.id, m.read_ct, m.payload["key"], *span)
            for m, span in zip(messages, spans, strict=True)
        ]
        vain = 0 if leases else self.now()
        self.log.end(worker=consumer.worker_id, leases=leases, vain=vain)
        return messages

    def now(self) -> int:
        row = self.clock.execute("SELECT clock_timestamp()").fetchone()
        return instant(row[0] if row else None)

    def finish(self, consumer: Consumer, messages: list[QueueMessage]) -> None:
        way = self.chance.random()
        if way < 0.04:
            self.late.append((consumer, messages))
        elif way < 0.08:
            delay = self.chance.choice([0, 0.1])
            self.many("release", lambda held: consumer.release(held, delay), messages)
        elif way < 0.16:
            self.extend(consumer, messages[0])
            self.many("archive", consumer.archive_batch, messages)
        elif way < 0.24:
            self.one("delete", consumer.delete, messages[0])
            self.one("archive", consumer.archive, messages[0])
            self.many("archive", consumer.archive_batch, messages[1:])
        elif way < 0.32:
            for message in messages[:5]:
                self.one("archive", consumer.archive, message)
            self.many("delete", consumer.delete_batch, messages[5:])
        else:
            self.many("archive", consumer.archive_batch, messages)

    def many(self, kind: str, act: Callable[[Any], list[bool]], held: list[QueueMessage]) -> None:
        fences = [(m.id, m.read_ct) for m in held]
        self.log.begin(kind, worker=self.worker, fences=fences)
        self.log.end(outcomes=[OK if done else LOST for done in act(held)])

    def one(self, kind: str, act: Callable[[Any], Any], message: QueueMessage) -> Any:
        self.log.begin(kind, worker=self.worker, fences=[(message.id, message.read_ct)])
        try:
            result = act(message)
        except LeaseLostError:
            self.log.end(outcomes=[LOST])
            return None
        until = instant(result.vt) if kind == "extend" else 0
        self.log.end(outcomes=[OK], until=until)
        return result

    def extend(self, consumer: Consumer, message: QueueMessage) -> None:
        self.one("extend", lambda held: consumer.extend_visibility(held, LEASE * 2), message)

    @property
    def worker(self) -> int | None:
        return self.consumers[0].worker_id


def run(
    what: str,
    dsn: str,
    path: Path,
    seed: float,
    fatal: int | None,
    names: Sequence[str],
    lines: int = 0,
) -> None:
    """Be a client: the entry of a process of its own, which is killed sooner or later.

    A producer enqueues a message for each name, each in one of so many lines if the queue is fifo;
    a consumer works until the file `END` is there.
    """
    config = Config.from_dsn(dsn, max_attempts=LIMIT, connection_pool_size=1)
    chance = random.Random(seed)
    log = MortalLog(path, chance, fatal)
    try:
        if what == "produce":
            produce(config, log, chance, names, lines)
        else:
            with psycopg.connect(dsn, autocommit=True) as clock:
                Taker(config, log, chance, clock).work(path.parent / END)
    except BaseException:
        path.with_suffix(".err").write_text(traceback.format_exc())
        raise
