"""The limit on statements that the client keeps."""

from __future__ import annotations

import time

import psycopg
import pytest

from pgqrs import deadline
from pgqrs.deadline import DeadlineWatch


def test_a_connection_that_is_closed_does_not_end_the_watch(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to cancel or cut there; the next statement that is late is cancelled."""
    monkeypatch.setattr(deadline, "GRACE", 0.05)
    watch = DeadlineWatch()
    with psycopg.connect(dsn) as gone, watch.over(gone.pgconn, 0.05):
        gone.close()
        time.sleep(0.3)
    with psycopg.connect(dsn, autocommit=True) as slow:
        slow.execute("SELECT 1")
        with pytest.raises(psycopg.errors.QueryCanceled), watch.over(slow.pgconn, 0.5):
            slow.execute("SELECT pg_sleep(60)")
        assert slow.execute("SELECT 2").fetchone() == (2,)


def test_a_shorter_limit_is_kept_beside_a_longer_one(dsn: str) -> None:
    """The watch looks again in time for whatever begins after it looked."""
    watch = DeadlineWatch()
    with (
        psycopg.connect(dsn, autocommit=True) as patient,
        psycopg.connect(dsn, autocommit=True) as hasty,
        watch.over(patient.pgconn, 60),
    ):
        with pytest.raises(psycopg.errors.QueryCanceled), watch.over(hasty.pgconn, 0.1):
            hasty.execute("SELECT pg_sleep(60)")
        patient.execute("SELECT 1")
