"""Behind PgBouncer in transaction mode, with fewer server connections than clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from bouncer import PROGRAM, bouncer
from sqlalchemy import URL
from waiting import until

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")


@pytest.fixture
def pooled(url: URL) -> Iterator[Config]:
    """A configuration that goes through PgBouncer to the fresh database."""
    with bouncer(url) as dsn:
        yield Config.from_dsn(dsn, pooler=True, poll_interval_seconds=0.1)


def test_a_message_lives_its_life(pooled: Config) -> None:
    """Everything a producer, a consumer and an admin do works through the pooler, many times."""
    with Admin(pooled) as admin, Producer(pooled, "q") as p, Consumer(pooled, "q") as c:
        admin.create_queue("q")
        assert admin.verify() == []
        for number in range(20):  # past the count from which a driver would prepare statements
            p.enqueue(number)
            message = c.dequeue()
            assert message is not None
            assert c.extend_visibility(message, 60).vt > message.vt
            c.archive(message, output=number)
        p.batch_enqueue(range(2500))
        leased = c.dequeue_batch(10)
        assert c.archive_batch(leased[:4]) == [True] * 4
        assert c.delete_batch(leased[4:6]) == [True] * 2
        assert c.release(leased[6:]) == [True] * 4
        assert admin.queue_metrics("q", exact=True).pending == 2494
        admin.delete_queue("q", force=True)


def test_more_clients_than_connections(pooled: Config) -> None:
    """Eight consumers on two server connections finish a backlog, each message once."""
    with Admin(pooled) as admin, Producer(pooled, "q") as producer:
        admin.create_queue("q")
        producer.batch_enqueue(range(400))
        done: list[int] = []

        def drain() -> None:
            with Consumer(pooled, "q") as consumer:
                while messages := consumer.dequeue_batch(5):
                    assert all(consumer.archive_batch(messages))
                    done.extend(message.payload for message in messages)

        threads = [threading.Thread(target=drain) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(done) == list(range(400))


def test_run_polls_where_listening_is_of_no_use(pooled: Config) -> None:
    """A run behind the pooler finds messages by polling; the session keeps nothing."""
    with Admin(pooled) as admin, Producer(pooled, "q") as p, Consumer(pooled, "q") as consumer:
        admin.create_queue("q")
        reports: list[pgqrs.Report] = []
        work = threading.Thread(target=lambda: reports.append(consumer.run(lambda m: m.payload)))
        work.start()
        try:
            for number in range(3):
                p.enqueue(number)
                until(lambda want=number + 1: admin.queue_metrics("q").archived == want)
        finally:
            consumer.stop()
            work.join(20)
        assert reports == [pgqrs.Report(completed=3)]
