"""What queues and the whole come to: counts, ages and rates, at a cost that does not grow."""

from __future__ import annotations

import datetime as dt

import pytest
from plans import Explainer
from sqlalchemy import URL, Engine, text

from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.operations import queues
from pgqrs.overview import system_stats

pytestmark = pytest.mark.matrix

WAITING = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
  SELECT 1, now(), now() - g * interval '1 s' / :rate, '1'
  FROM generate_series(:first ::int, :last ::int, -1) g
"""
FINISHED = """
INSERT INTO pgqrs.pgqrs_archive (id, queue_id, vt, enqueued_at, archived_at, read_ct, returned_ct,
    priority, status, payload)
  SELECT nextval('pgqrs.pgqrs_messages_id_seq'), 1, now(), now() - (g + 5) * interval '1 s' / :rate,
    now() - g * interval '1 s' / :rate, 1, 0, 0, CASE WHEN g % 2 = 0 THEN 'dead' ELSE 'failed' END,
    '1'
  FROM generate_series(:first ::int, :last ::int, -1) g
"""


def fill(engine: Engine, statement: str, first: int, last: int, rate: int = 1) -> None:
    """Add rows that came one after the other at a rate a second, up to so many of them ago."""
    with engine.begin() as connection:
        connection.execute(text(statement), {"first": first, "last": last, "rate": rate})


def test_rates_are_those_of_the_last_minute(engine: Engine, admin: Admin) -> None:
    """What is archived was enqueued too; what is older than a minute does not count."""
    admin.create_queue("q")
    assert (admin.queue_metrics("q").rate_in, admin.queue_metrics("q").rate_out) == (0, 0)
    fill(engine, FINISHED, 1000, 1, rate=2)  # 2 a second archived for 500 seconds
    fill(engine, WAITING, 300, 1, rate=1)  # and 1 a second waits, since 300 seconds
    found = admin.queue_metrics("q")
    assert found.rate_in == pytest.approx(2 + 1, abs=0.3)
    assert found.rate_out == pytest.approx(2, abs=0.2)
    assert (found.pending, found.archived, found.dead) == (300, 1000, 500)
    assert found.oldest_pending_age is not None
    assert dt.timedelta(seconds=300) <= found.oldest_pending_age < dt.timedelta(seconds=330)


def test_a_full_sample_tells_of_a_shorter_time(engine: Engine, admin: Admin) -> None:
    """At a hundred a second the rate is that of the last seconds, and not cut off."""
    admin.create_queue("q")
    admin.create_queue("other")
    fill(engine, FINISHED, 8000, 1, rate=100)
    fill(engine, WAITING, 5000, 1, rate=60)
    found, other = admin.queue_metrics("q"), admin.queue_metrics("other")
    assert found.rate_in == pytest.approx(160, rel=0.2)
    assert found.rate_out == pytest.approx(100, rel=0.2)
    assert (other.rate_in, other.rate_out, other.dead) == (0, 0, 0)


def test_without_a_history_there_is_no_rate(admin: Admin) -> None:
    """Under the archive mode none what completed leaves no trace, and nothing is made up."""
    admin.create_queue("q", archive_mode="none")
    found = admin.queue_metrics("q")
    assert (found.rate_in, found.rate_out) == (None, None)
    assert admin.system_stats().rate_in == 0


def test_system_stats_are_sums_with_the_state_of_tables_and_server(
    config: Config, admin: Admin, engine: Engine
) -> None:
    """Queues and workers are counted once; the totals that only grow count each message."""
    for queue in ("a", "b"):
        admin.create_queue(queue)
        with Producer(config, queue) as producer, Consumer(config, queue) as consumer:
            producer.batch_enqueue(range(5))
            for message in consumer.dequeue_batch(2):
                consumer.archive(message)
            with engine.begin() as connection:
                connection.execute(text("ANALYZE pgqrs.pgqrs_messages"))
    admin.pause_queue("b")
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE pgqrs.pgqrs_workers SET status = 'ready', shutdown_at = NULL,"
                " heartbeat_at = now() - interval '1 h' WHERE id = 1"
            )
        )
    found = admin.system_stats()
    assert (found.queues, found.paused_queues, found.pending, found.archived) == (2, 1, 6, 4)
    assert (found.total_messages, found.capped, found.enqueued_total) == (6, False, 10)
    assert found.oldest_pending_age is not None
    assert (found.ready_workers, found.stopped_workers, found.stale_workers) == (1, 3, 1)
    assert found.revision is not None
    assert found.revision.startswith("pgqrs_")
    sizes = {table.table_name: table for table in found.tables}
    assert list(sizes)[:4] == ["pgqrs_queues", "pgqrs_workers", "pgqrs_messages", "pgqrs_archive"]
    assert sizes["pgqrs_messages"].table_bytes > 0 < sizes["pgqrs_messages"].index_bytes
    assert sizes["pgqrs_messages"].last_analyze_at is not None


def test_measuring_does_not_cost_more_when_there_is_ten_times_as_much(
    url: URL, engine: Engine, admin: Admin
) -> None:
    """The pages that all of it reads are as many with 200,000 messages as with 20,000."""
    admin.create_queue("q")
    explainer = Explainer(url)
    try:
        buffers = []
        for first, last in ((200_000, 180_001), (180_000, 1)):
            fill(engine, WAITING, first, last, rate=1000)
            fill(engine, FINISHED, first, last, rate=1000)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("VACUUM ANALYZE pgqrs.pgqrs_messages, pgqrs.pgqrs_archive"))
            sent = explainer.capture(
                lambda connection: system_stats(
                    connection, "pgqrs", queues.COUNT_LIMIT, dt.timedelta(minutes=1)
                )
            )
            measured = [each for each in sent if "pgqrs_" in each.text]
            buffers.append(sum(explainer.custom(each).buffers for each in measured))
    finally:
        explainer.close()
    few, many = buffers
    assert many <= few * 1.1 + 50, buffers
