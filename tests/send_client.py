"""A process that enqueues and writes down what it sends, once, or until it is there.

It can be told to kill itself at a point of its work.
"""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from history import Log
from history_client import instant
from run_client import QUEUE, Death
from tapping import tap

from pgqrs import Config, DuplicateMessageError, PgqrsError, Producer

POINTS = {
    "before an enqueue": ("before", "enqueue"),
    "after an enqueue": ("after", "enqueue"),
}
"""Where it can kill itself."""
ADDS = {"json", "items"}
"""Of these the statements that add messages have one."""


@dataclass(frozen=True)
class Sending:
    """What a producer process is to do: how many messages, and the pause after each twenty.

    With `keyed` each message has an id of its own, and is sent again until it is there.
    """

    count: int
    pause: float = 0.0
    keyed: bool = False
    timeout: float = 5
    fatal: str = ""
    reached: int = 3


def produce(dsn: str, path: Path, name: str, orders: Sending) -> None:
    """Enqueue messages named after this process; those without an id are sent once at most.

    Told to stop by SIGTERM it leaves the rest.
    """
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    die_at_inserts(Death(POINTS.get(orders.fatal), orders.reached))
    log, send = Log(path), send_keyed if orders.keyed else send_plain
    limits = {"connection_timeout_seconds": orders.timeout, "query_timeout_seconds": orders.timeout}
    config = Config.from_dsn(dsn, **limits)
    with Producer(config, QUEUE) as producer:
        for place in range(0, orders.count, 20):
            if stopped:
                return
            numbers = range(place, min(place + 20, orders.count))
            send(producer, log, [f"{name}-{number}" for number in numbers])
            time.sleep(orders.pause)


def send_plain(producer: Producer, log: Log, keys: list[str]) -> None:
    """Send a batch, once: where that fails, nobody knows what became of it."""
    log.begin("enqueue", keys=keys)
    try:
        sent = producer.batch_enqueue([{"key": key} for key in keys])
    except PgqrsError:
        time.sleep(0.05)
    else:
        log.end(ids=[m.id for m in sent], due=[instant(m.vt) for m in sent])


def send_keyed(producer: Producer, log: Log, keys: list[str]) -> None:
    """Send each with an id of its own until it is there: what is kept out was let in before."""
    for key in keys:
        log.begin("enqueue", keys=[key])
        ids: list[int] | None = None
        while ids is None:
            try:
                mid = uuid.uuid5(uuid.NAMESPACE_OID, key)
                ids = [producer.enqueue({"key": key}, message_id=mid).id]
            except DuplicateMessageError:
                ids = []
            except PgqrsError:
                time.sleep(0.02)
        log.end(ids=ids)


def die_at_inserts(death: Death) -> None:
    """Let a producer die before or after the statement that adds messages."""

    def reached(when: str, given: Mapping[str, Any]) -> None:
        if ADDS & set(given):
            death.at(when, "enqueue")

    tap(
        lambda _connection, given: reached("before", given),
        lambda _connection, given, _rows: reached("after", given),
    )
