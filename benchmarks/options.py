"""What each option of a message costs in its whole life: enqueued, leased, archived.

Bytes of write-ahead log and buffers of pgqrs's tables and indexes, a message, on a server on which
nobody else writes, without images of whole pages. Neither depends on the machine. ``python -m
benchmarks.options`` prints the table of the documentation.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

from sqlalchemy import Connection, text

from pgqrs import Admin, Config, Consumer, NewMessage, Producer
from pgqrs.embedded import EmbeddedPostgres

__all__ = ["OPTIONS", "Cost", "costs", "quiet_server", "table"]

BODY = {"text": "x" * 188}
# Nobody beats or notifies in the background while we count.
QUIET = {
    "heartbeat_interval_seconds": 3600,
    "stale_after_seconds": 7200,
    "enable_listen_notify": False,
}
MESSAGES = 100
WAL = text("SELECT pg_current_wal_insert_lsn() - '0/0'")
FLUSH = text("SELECT pg_stat_force_next_flush()")
READ = text(
    "SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)"
    " FROM pg_statio_user_tables"
)
VACUUM = text(
    "VACUUM (INDEX_CLEANUP ON) pgqrs.pgqrs_messages, pgqrs.pgqrs_archive, pgqrs.pgqrs_keys"
)


def _key(number: int) -> str:
    return f"customer-{number:06}"


def _uuid(number: int) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number))


Given = Callable[[int], dict[str, Any]]

OPTIONS: dict[str, tuple[str, Given]] = {
    "none": ("standard", lambda _: {}),
    "`priority`": ("standard", lambda _: {"priority": 5}),
    "`delay`": ("standard", lambda _: {"delay": 1e-6}),
    "`max_attempts`": ("standard", lambda _: {"max_attempts": 3}),
    "`retry_delay`, `retry_backoff`": (
        "standard",
        lambda _: {"retry_delay": 60, "retry_backoff": False},
    ),
    "`expire_in`": ("standard", lambda _: {"expire_in": 300}),
    "`dead_letter`": ("standard", lambda _: {"dead_letter": "letters"}),
    "`headers`": ("standard", lambda n: {"headers": {"trace": f"4bf92f3577b3{n:06}"}}),
    "`retain_for`": ("standard", lambda _: {"retain_for": 86400}),
    "`message_id`": ("standard", lambda n: {"message_id": _uuid(n)}),
    "`singleton_for`, `singleton_key`": (
        "standard",
        lambda n: {"singleton_for": 60, "singleton_key": _key(n)},
    ),
    **{
        f"`singleton_key` under {policy}": (policy, lambda n: {"singleton_key": _key(n)})
        for policy in ("short", "singleton", "stately", "exclusive")
    },
    "`ordering_key` under fifo": ("fifo", lambda n: {"ordering_key": _key(n)}),
}


class Cost(NamedTuple):
    """What a message costs: one at a time, and by 50."""

    wal: float
    buffers: float
    wal_by_50: float
    buffers_by_50: float


class _House:
    def __init__(self, dsn: str) -> None:
        self.config = Config.from_dsn(dsn, **QUIET)
        self.admin = Admin(self.config)
        self.admin.install()
        self.admin.create_queue("letters")
        self.numbers = itertools.count()
        self._furnish()

    def _furnish(self) -> None:
        """Fill the tables, so that statements are planned as in life."""
        self.admin.create_queue("parked")
        with Producer(self.config, "parked") as producer, Consumer(self.config, "parked") as all_:
            kept = [NewMessage(BODY, message_id=_uuid(-n)) for n in range(1, 2001)]
            producer.batch_enqueue(kept[:1000])
            for _ in range(10):
                all_.archive_batch(all_.dequeue_batch(100))
            producer.batch_enqueue(kept[1000:], delay=86400)
            producer.batch_enqueue([BODY] * 2000, delay=86400)
        with self.admin.pool.connect() as connection:
            connection.execute(text("VACUUM ANALYZE"))

    def cost(self, policy: str, given: Given) -> Cost:
        queue = f"{policy}-{next(self.numbers)}"
        self.admin.create_queue(queue, policy=policy)
        with Producer(self.config, queue) as producer, Consumer(self.config, queue) as consumer:

            def live(times: int, n: int) -> None:
                for _ in range(times):
                    self._live(producer, consumer, given, n)

            live(10, 1)  # so that statements are prepared and indexes have their roots
            live(2, 50)
            one = self._counted(lambda: live(MESSAGES, 1))
            return Cost(*one, *self._counted(lambda: live(MESSAGES // 50, 50)))

    def _live(self, producer: Producer, consumer: Consumer, given: Given, n: int) -> None:
        options = [given(next(self.numbers)) for _ in range(n)]
        if n == 1:
            producer.enqueue(BODY, **options[0])
            message = consumer.dequeue()
            assert message is not None
            consumer.archive(message)
            return
        producer.batch_enqueue([NewMessage(BODY, **each) if each else BODY for each in options])
        messages = consumer.dequeue_batch(n)
        assert len(messages) == n
        assert all(consumer.archive_batch(messages))

    def _counted(self, act: Callable[[], None]) -> tuple[float, float]:
        with self.admin.pool.connect() as connection:
            connection.execute(VACUUM)
            before = _read(connection)
        act()
        with self.admin.pool.connect() as connection:  # the same one: the last used comes first
            after = _read(connection)
        wal, buffers = (now - then for now, then in zip(after, before, strict=True))
        return wal / MESSAGES, buffers / MESSAGES


def _read(connection: Connection) -> tuple[float, float]:
    connection.execute(FLUSH)
    return float(connection.scalar(WAL)), float(connection.scalar(READ) or 0)


def quiet_server() -> EmbeddedPostgres:
    """Give a server for this, not started: its write-ahead log is ours alone."""
    return EmbeddedPostgres(durable=False, settings={"autovacuum": "off"})


def costs(dsn: str) -> Iterator[tuple[str, Cost]]:
    """Measure each option on a server of its own."""
    house = _House(dsn)
    # On a busy machine leases would take themselves for slow, and look from elsewhere on.
    with patch("pgqrs.floor._SLOW", 60.0), house.admin:
        for name, (policy, given) in OPTIONS.items():
            yield name, house.cost(policy, given)


def table(found: dict[str, Cost]) -> str:
    """Give the rows as the documentation has them."""
    head = "| Option | WAL, bytes | buffers | WAL by 50 | buffers by 50 |\n|---|--:|--:|--:|--:|\n"
    rows = [
        f"| {name} | {' | '.join(f'{one:,.0f}' for one in cost)} |" for name, cost in found.items()
    ]
    return head + "\n".join(rows)


if __name__ == "__main__":
    with quiet_server() as server:
        print(table(dict(costs(server.dsn()))))
