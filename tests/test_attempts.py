"""Each message has as many attempts as it may, one end, and its time in the archive after that."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest
from line import Line
from sqlalchemy import Connection, Engine, text
from waiting import crowd, until

from pgqrs import Admin, Config, NewMessage, QueueMessage, UnavailableError

pytestmark = pytest.mark.matrix

WAYS = ("killed", "expired", "failed", "raised")
"""How an attempt may end without success."""
ROUNDS = 3
HOUR = 3600

# What it is not to take with it, it gives back, which costs no attempt.
MORTAL = """
import os, signal, sys
from pgqrs import Config, Consumer

consumer = Consumer(Config.from_dsn(sys.argv[1]), "work")
messages = consumer.dequeue_batch(100, vt=3600)
mine = [m.id for m in messages if m.payload[m.attempts - 1] == "killed"]
consumer.release([m for m in messages if m.id not in mine])
print(*mine, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    with Admin(config) as admin:
        admin.create_queue("letters")
    line = Line(config, dead_letter="letters", retry_delay=HOUR, retry_backoff=False)
    yield line
    line.close()


def test_every_attempt_counts_whichever_way_it_ends(line: Line, dsn: str) -> None:
    """A killed process, a lease that ran out, a failure, an exception: in any order, so many.

    Then the message is dead, and there is one dead letter of it.
    """
    orders = [list(o) for n in range(1, ROUNDS + 1) for o in itertools.product(WAYS, repeat=n)]
    sent = line.producer.batch_enqueue([NewMessage(o, max_attempts=len(o)) for o in orders])
    plans = {message.id: len(order) for message, order in zip(sent, orders, strict=True)}
    attempts: Counter[int] = Counter()
    for _ in range(ROUNDS):
        attempts.update(killed(dsn))
        attempts.update(others(line))
        line.execute("UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s'")
    assert line.consumer.dequeue() is None
    assert attempts == plans
    ends = {
        number: (row.status, row.read_ct - row.returned_ct)
        for number, row in line.archived().items()
    }
    assert ends == {number: ("dead", limit) for number, limit in plans.items()}
    letters = [row.headers["pgqrs"]["dead_letter_of"]["id"] for row in line.waiting().values()]
    assert sorted(letters) == sorted(plans)


def killed(dsn: str) -> list[int]:
    """Let a process die with what it leased; gives the ids."""
    program = [sys.executable, "-c", MORTAL, dsn]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return list(map(int, ended.stdout.split()))


def others(line: Line) -> list[int]:
    """Let all that is left to lease have an attempt that ends in its way; gives the ids."""
    messages = line.consumer.dequeue_batch(100, vt=HOUR)
    ways = {message.id: message.payload[message.attempts - 1] for message in messages}
    for message in messages:
        if ways[message.id] == "failed":
            line.consumer.fail(message, "why")
    raising = [message for message in messages if ways[message.id] == "raised"]
    line.consumer.release(raising)
    seen: list[int] = []

    def raises(message: QueueMessage) -> None:
        seen.append(message.id)
        if len(seen) == len(raising):
            line.sibling.stop()
        raise LookupError(message.id)

    if raising:
        line.sibling.run(raises)
    assert sorted(seen) == sorted(message.id for message in raising)
    return list(ways)


def test_what_is_kept_for_a_time_is_kept_so_long_while_all_goes_on(line: Line) -> None:
    """Not a second less; then it is deleted, in batches, and nothing else is."""
    many, later = 2_300, 20
    line.producer.batch_enqueue([NewMessage(0, retain_for=60)] * many)
    line.producer.batch_enqueue([NewMessage(1, retain_for=HOUR)] * later)
    while messages := line.consumer.dequeue_batch(100):
        assert all(line.consumer.archive_batch(messages))
    let_time_pass(line, 58)
    over, handled = threading.Event(), 0
    looked = line.admin.maintain()
    assert (looked.purged_messages, looked.expired_messages) == (0, 0)

    def work() -> None:
        nonlocal handled
        while not over.is_set():
            line.producer.enqueue(2, retain_for=60)
            handled += len(line.other.archive_batch(line.other.dequeue_batch(10)))

    with crowd() as start:
        let_time_pass(line, 3)
        start(1, work)
        try:
            until(lambda: handled)
            assert line.admin.maintain().purged_messages == many
            before = handled
            until(lambda: handled > before)
        finally:
            over.set()
    kept = Counter(
        message.payload for message in line.admin.archived_messages("work", limit=10_000)
    )
    assert kept == {1: later, 2: handled}


def let_time_pass(line: Line, seconds: float) -> None:
    for table, column in (("keys", "until"), ("archive", "archived_at")):
        line.execute(
            f"UPDATE pgqrs.pgqrs_{table} SET {column} = {column} - :span * interval '1 s'",
            span=seconds,
        )


@pytest.mark.parametrize("kind", ["window", "id"])
def test_keys_of_two_transactions_in_opposite_orders(kind: str, line: Line, engine: Engine) -> None:
    """One of the two is told that it may be tried again; the other one goes on."""
    one, two = engine.connect(), engine.connect()
    take = {"window": in_window, "id": with_id}[kind]
    told: list[UnavailableError] = []

    def want(connection: Connection, key: str) -> None:
        try:
            take(line, connection, key)
        except UnavailableError as error:
            told.append(error)
            connection.rollback()
        else:
            connection.commit()

    for connection in (one, two):
        connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
    take(line, one, "a")
    take(line, two, "b")
    with crowd() as start:
        start(1, lambda: want(one, "b"))
        start(1, lambda: want(two, "a"))
    (error,) = told
    assert (error.sqlstate, error.retryable) == ("40P01", True)
    assert len(line.waiting()) == 2  # both of the other one's
    one.execute(text("SET LOCAL lock_timeout = '20ms'"))
    take(line, two, "c")
    with pytest.raises(UnavailableError, match="lock") as refused:
        take(line, one, "c")
    assert refused.value.sqlstate == "55P03"
    for connection in (one, two):
        connection.close()


def in_window(line: Line, connection: Connection, key: str) -> None:
    line.producer.within(connection).enqueue(1, singleton_for=60, singleton_key=key)


def with_id(line: Line, connection: Connection, key: str) -> None:
    line.producer.within(connection).enqueue(1, message_id=uuid.uuid5(uuid.NAMESPACE_OID, key))
