"""What an operation costs beyond its own work: round trips, and the write-ahead log."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from wire import Wire

from pgqrs import Admin, Config, Consumer, Producer, QueueMessage
from pgqrs.embedded import EmbeddedPostgres

BODY = json.dumps({"text": "x" * 188})
# Nobody beats or notifies in the background while we count.
QUIET = {
    "heartbeat_interval_seconds": 3600,
    "stale_after_seconds": 7200,
    "enable_listen_notify": False,
}


class House:
    """One queue with a producer and a consumer, on one engine of pgqrs's own."""

    def __init__(self, dsn: str) -> None:
        config = Config.from_dsn(dsn, **QUIET)
        self.admin = Admin(config)
        self.admin.create_queue("work", exist_ok=True)
        self.admin.pool.dispose()
        self.wire = Wire(self.admin.pool)
        self.producer = Producer(config, "work")
        self.consumer = Consumer(config, "work")
        self.made = 0

    def waiting(self) -> QueueMessage:
        return self.producer.enqueue_delayed(BODY, 60)

    def held(self, n: int = 1) -> list[QueueMessage]:
        self.producer.batch_enqueue([BODY] * n)
        return self.consumer.dequeue_batch(n)

    def one(self) -> QueueMessage:
        (message,) = self.held()
        return message

    def new_name(self) -> str:
        self.made += 1
        return f"queue-{self.made}"

    def close(self) -> None:
        self.consumer.close()
        self.producer.close()
        self.admin.close()


OPERATIONS: dict[str, Callable[[House], Callable[[], object]]] = {
    "enqueue": lambda h: partial(h.producer.enqueue, BODY),
    "enqueue_delayed": lambda h: partial(h.producer.enqueue_delayed, BODY, 5),
    "batch_enqueue": lambda h: partial(h.producer.batch_enqueue, [BODY] * 100),
    "postpone": lambda h: partial(h.producer.extend_visibility, h.waiting(), 90),
    "dequeue": lambda h: h.consumer.dequeue,
    "dequeue_batch": lambda h: partial(h.consumer.dequeue_batch, 10),
    "archive": lambda h: partial(h.consumer.archive, h.one(), output={"ok": True}),
    "archive_batch": lambda h: partial(h.consumer.archive_batch, h.held(10)),
    "archive_and_dequeue": lambda h: partial(h.consumer.archive_and_dequeue, h.held(10), 10),
    "delete": lambda h: partial(h.consumer.delete, h.one()),
    "delete_batch": lambda h: partial(h.consumer.delete_batch, h.held(10)),
    "extend_visibility": lambda h: partial(h.consumer.extend_visibility, h.one(), 60),
    "release": lambda h: partial(h.consumer.release, h.one()),
    "release_many": lambda h: partial(h.consumer.release, h.held(10), delay=5),
    "fail": lambda h: partial(h.consumer.fail, h.one(), "why"),
    "heartbeat": lambda h: h.consumer.heartbeat,
    "create_queue": lambda h: partial(h.admin.create_queue, h.new_name()),
    "get_queue": lambda h: partial(h.admin.get_queue, "work"),
    "list_queues": lambda h: h.admin.list_queues,
    "update_queue": lambda h: partial(h.admin.update_queue, "work", max_attempts=7),
    "pause_queue": lambda h: partial(h.admin.pause_queue, "work"),
    "resume_queue": lambda h: partial(h.admin.resume_queue, "work"),
    "queue_metrics": lambda h: partial(h.admin.queue_metrics, "work"),
    "all_queues_metrics": lambda h: h.admin.all_queues_metrics,
}


@pytest.fixture
def house(dsn: str) -> Iterator[House]:
    house = House(dsn)
    yield house
    house.admin.resume_queue("work")
    house.close()


@pytest.mark.matrix
@pytest.mark.skipif(sys.platform != "linux", reason="libpq's trace is opened by descriptor")
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_one_statement_and_one_round_trip(name: str, house: House) -> None:
    """No BEGIN, no COMMIT, no look at the connection: from the second call on, for ever."""
    prepare = OPERATIONS[name]
    prepare(house)()
    for _ in range(8):  # on the way the driver prepares the statement, which is one more trip
        act = prepare(house)
        with house.wire.watched() as traffic:
            act()
        assert traffic.statements == 1, "\n".join(traffic.lines)
        assert traffic.round_trips == 1, "\n".join(traffic.lines)
        assert traffic.prepared <= 1


@pytest.mark.matrix
@pytest.mark.skipif(sys.platform != "linux", reason="libpq's trace is opened by descriptor")
def test_counting_sees_a_transaction(house: House) -> None:
    """The count above would show a BEGIN and a COMMIT."""
    host = create_engine(house.admin.pool.url)
    wire = Wire(host)
    for _ in range(2):
        with wire.watched() as traffic, host.begin() as connection:
            connection.execute(text("SELECT 1"))
    host.dispose()
    assert traffic.statements == traffic.round_trips == 3


@pytest.fixture(scope="module")
def log(quiet_server: EmbeddedPostgres) -> Iterator[Connection]:
    url = quiet_server.dsn().replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="module")
def quiet_house(quiet_server: EmbeddedPostgres) -> Iterator[House]:
    with Admin(Config.from_dsn(quiet_server.dsn())) as admin:
        admin.install()
    house = House(quiet_server.dsn())
    yield house
    house.close()


def written(log: Connection, act: Callable[[], object]) -> float:
    """Bytes of write-ahead log; full-page images are off."""
    position = text("SELECT pg_current_wal_insert_lsn() - '0/0'")
    before = log.scalar(position)
    act()
    return float(log.scalar(position) - before)


# Bytes a message of 200 bytes, as measured, for the server's version; a newer one is like 18.
ONE_AT_A_TIME = {15: 1520, 18: 1520}
FIFTY_AT_A_TIME = {15: 1300, 18: 1300}
HEARTBEAT = {15: 123, 18: 123}
TOLERANCE = 1.03
BOUNDS = {1: 1550, 50: 1450}  # whatever the tolerance says


def allowed(held: dict[int, int], server: EmbeddedPostgres) -> float:
    return held[15 if server.version < 18 else 18] * TOLERANCE


def live(house: House, n: int) -> None:
    """Enqueue, lease and archive, 300 messages, n at a time."""
    for _ in range(300 // n):
        house.producer.batch_enqueue([BODY] * n) if n > 1 else house.producer.enqueue(BODY)
        messages = house.consumer.dequeue_batch(n)
        assert len(messages) == n
        if n > 1:
            assert all(house.consumer.archive_batch(messages))
        else:
            house.consumer.archive(messages[0])


@pytest.mark.matrix
@pytest.mark.parametrize(("n", "held"), [(1, ONE_AT_A_TIME), (50, FIFTY_AT_A_TIME)])
def test_a_life_writes_no_more_log_than_it_did(
    n: int,
    held: dict[int, int],
    quiet_house: House,
    quiet_server: EmbeddedPostgres,
    log: Connection,
) -> None:
    """Two row versions in the queue, one in the archive, and an entry in each index made for it."""
    live(quiet_house, n)
    per_message = written(log, partial(live, quiet_house, n)) / 300
    assert per_message <= min(allowed(held, quiet_server), BOUNDS[n])


@pytest.mark.matrix
def test_a_heartbeat_is_one_update_that_stays_on_its_page(
    quiet_house: House, quiet_server: EmbeddedPostgres, log: Connection
) -> None:
    """No index is touched, so heartbeats leave nothing for VACUUM to find in one."""
    quiet_house.consumer.heartbeat()
    before = updates(quiet_house.admin.pool)

    def beat() -> None:
        for _ in range(50):
            quiet_house.consumer.heartbeat()

    per_beat = written(log, beat) / 50
    after = updates(quiet_house.admin.pool)
    assert (after[0] - before[0], after[1] - before[1]) == (50, 50)
    assert per_beat <= allowed(HEARTBEAT, quiet_server)


def updates(engine: Engine) -> tuple[int, int]:
    """How many updates of workers there were, and how many of them were HOT."""
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        row = connection.execute(
            text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = :name"),
            {"name": "pgqrs_workers"},
        ).one()
    return row[0], row[1]
