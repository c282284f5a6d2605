"""Messages of types that no worker knows yet: many of them, and what is shown of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from waiting import ask, until

from pgqrs import Admin, Config, Consumer, Handlers, Message, Producer
from pgqrs.cli import app as cli
from pgqrs.embedded import EmbeddedPostgres

PAGES = (
    "SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read"
    " FROM pg_statio_user_tables WHERE relname = 'pgqrs_messages'"
)


class EmailMessage(Message, message_type="email"):
    to: str


@pytest.fixture
def producer(admin: Admin, config: Config) -> Iterator[Producer]:
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        yield producer


@pytest.fixture
def quiet(quiet_server: EmbeddedPostgres) -> Iterator[tuple[Admin, Producer]]:
    """Give both where no work of others decides when the rows of leases given back are pruned."""
    with Admin(Config.from_dsn(quiet_server.dsn())) as admin:
        admin.install()
        admin.create_queue("q")
        with Producer(admin, "q") as producer:
            yield admin, producer


def test_a_crowd_of_unknown_types_holds_nobody_up(quiet: tuple[Admin, Producer]) -> None:
    """100,000 of them at the head cost a bounded number of pages each, and are counted by type."""
    admin, producer = quiet
    engine = admin.pool
    crowd = (
        "INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload, message_type)"
        " SELECT id, now(), now(), '{}', 'new' FROM pgqrs.pgqrs_queues, generate_series(1, 100000)"
        " RETURNING 1"
    )
    ask(engine, crowd)
    producer.batch_enqueue([EmailMessage(to=str(n)) for n in range(20)])
    handlers, done = Handlers(), []
    handlers.on(EmailMessage)(lambda message: done.append(message.payload.to))
    before = ask(engine, PAGES)
    with Consumer(admin, "q") as consumer:
        work = threading.Thread(target=consumer.run, args=(handlers,))
        work.start()
        until(lambda: len(done) == 20, seconds=60)
        consumer.stop()
        work.join(20)
    metrics = admin.queue_metrics("q")
    assert metrics.unhandled_types == {"new": 10_000}
    assert metrics.capped
    leases = ask(engine, "SELECT sum(read_ct) FROM pgqrs.pgqrs_messages")
    assert ask(engine, "SELECT max(read_ct - returned_ct) FROM pgqrs.pgqrs_messages") == 0
    until(lambda: ask(engine, PAGES) - before > 10 * leases)  # they are counted a little later
    assert ask(engine, PAGES) - before <= 40 * leases


def test_the_command_shows_them(
    producer: Producer, dsn: str, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """By type, with their number; where there are none, a dash."""
    assert cli.run(["--dsn", dsn, "queue", "metrics", "q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["unhandled", "types", "-"]
    producer.batch_enqueue([EmailMessage(to="ada")] * 2)
    given_back = "state = 1, vt = now() + interval '1 h', read_ct = 1, returned_ct = 1"
    ask(engine, f"UPDATE pgqrs.pgqrs_messages SET {given_back} RETURNING 1")
    assert cli.run(["--dsn", dsn, "queue", "metrics", "q"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[2:] == ["email:", "2"]


def test_types_that_are_handled_are_not_shown(
    producer: Producer, config: Config, admin: Admin
) -> None:
    """What was begun and failed, given back by hand, or without a type is handled by somebody."""
    producer.batch_enqueue([EmailMessage(to="ada"), {}])
    with Consumer(config, "q") as consumer:
        first, second = consumer.dequeue_batch(2)
        assert not consumer.fail(first, "no", delay=60)
        consumer.release(second, delay=60)
    assert admin.queue_metrics("q").unhandled_types == {}
