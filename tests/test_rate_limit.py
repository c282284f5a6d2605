"""How fast a producer may send: what it may send now, and from when on more."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from settings import shows
from sqlalchemy import Engine

from pgqrs import (
    Admin,
    Config,
    PartlyEnqueuedError,
    PayloadError,
    Producer,
    QueueNotFoundError,
    RateLimitedError,
    RateLimitStatus,
)
from pgqrs.aio import AsyncProducer
from pgqrs.bucket import Bucket

SLOW = 0.001  # messages a second: none comes back while a test runs


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def seconds(wait: dt.timedelta | None) -> float | None:
    return None if wait is None else wait.total_seconds()


def test_a_burst_and_then_a_steady_rate() -> None:
    """It begins full, fills by fractions, and never holds more than the burst."""
    clock = Clock()
    bucket = Bucket(4, 2, clock)
    assert [seconds(bucket.take(1)) for _ in range(3)] == [None, None, 0.25]
    clock.now += 0.125
    assert bucket.status() == RateLimitStatus(4, 2, 0.5, dt.timedelta(seconds=0.125))
    assert seconds(bucket.take(1)) == 0.125
    clock.now += 0.125
    assert [seconds(bucket.take(1)) for _ in range(2)] == [None, 0.25]
    clock.now += 1_000
    assert bucket.status() == RateLimitStatus(4, 2, 2, None)
    assert [seconds(bucket.take(1)) for _ in range(3)] == [None, None, 0.25]


def test_refusals_cost_nothing() -> None:
    """Who asks too early, however often, comes no later for it."""
    clock = Clock()
    bucket = Bucket(1, 5, clock)
    assert bucket.take(4) is None
    assert [seconds(bucket.take(3)) for _ in range(5)] == [2] * 5
    clock.now += 2
    assert bucket.take(3) is None


def test_more_than_the_burst() -> None:
    """It is given when the bucket is full, and owed then; nothing else is given meanwhile."""
    clock = Clock()
    bucket = Bucket(8, 5, clock)
    assert bucket.take(1) is None
    assert seconds(bucket.take(25)) == 0.125
    clock.now += 0.125
    assert bucket.take(25) is None
    assert bucket.status() == RateLimitStatus(8, 5, -20, dt.timedelta(seconds=2.625))
    assert seconds(bucket.take(1)) == 2.625
    assert seconds(bucket.take(25)) == 3.125
    assert bucket.take(0) is None
    clock.now += 2.625
    assert bucket.take(1) is None


@pytest.mark.parametrize(("limit", "burst"), [(0.5, 1), (1, 1), (2.5, 3), (100, 100)])
def test_the_burst_is_a_second_of_the_limit(limit: float, burst: int) -> None:
    """Unless it is given, and one at least."""
    assert Bucket(limit).status() == RateLimitStatus(limit, burst, burst, None)


@given(
    st.floats(0.0001, 10_000),
    st.integers(1, 1_000),
    st.floats(0, 1e7),
    st.lists(st.tuples(st.integers(0, 2_000), st.floats(0, 100)), max_size=30),
)
@example(10_000.0, 1, 2_092_455.0, [(2_000, 100.0), (2_000, 100.0), (2, 20.0), (477, 0.0)])
def test_what_it_says_is_true(
    limit: float, burst: int, start: float, asked: list[tuple[int, float]]
) -> None:
    """After `retry_after` the same is given; and it gives no more than burst and time allow."""
    clock = Clock(start)
    bucket = Bucket(limit, burst, clock)
    begun, given_before, last = clock.now, 0, 0
    for count, pause in asked:
        clock.now += pause
        wait = bucket.take(count)
        if wait is not None:
            clock.now += wait.total_seconds()
            assert bucket.take(count) is None
        given_before += last if count else 0
        last = count or last
        allowed = burst + (clock.now - begun) * limit
        assert given_before + min(last, burst) <= allowed + 1e-4 + limit * 1e-7


def test_threads_share_it() -> None:
    """However many ask at once, no more are given than there are."""
    bucket = Bucket(SLOW, 1_000)
    start = threading.Barrier(8)

    def ask(_: int) -> int:
        start.wait()
        return sum(bucket.take(1) is None for _ in range(500))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1_000


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_not_stuck() -> None:
    """A lock that a thread of the parent's held is no lock of the child's."""
    bucket = Bucket(SLOW, 3)
    with bucket._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            given = [bucket.take(1) is None for _ in range(4)]
            os._exit(0 if given == [True, True, True, False] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bucket.status().available == pytest.approx(3)


def test_the_status_is_a_value() -> None:
    """It does not change, neither by itself nor by hand."""
    status = Bucket(1).status()
    with pytest.raises(FrozenInstanceError):
        status.available = 7  # type: ignore[misc]


def limited(dsn: str, burst: int, **settings: Any) -> Config:
    limits = {"max_enqueue_per_second": SLOW, "max_enqueue_burst": burst}
    return Config.from_dsn(dsn, **limits, **settings)


@shows("max_enqueue_burst")
def test_max_enqueue_burst(dsn: str, admin: Admin) -> None:
    """So many are sent at once, by any of the methods; then a refusal says from when on more."""
    admin.create_queue("q")
    with Producer(limited(dsn, 4), "q") as producer, Producer(limited(dsn, 4), "q") as other:
        producer.enqueue(1)
        producer.enqueue_delayed(2, 5)
        producer.batch_enqueue([3, 4])
        for refused in (
            lambda: producer.enqueue(5),
            lambda: producer.enqueue_delayed(5, 5),
            lambda: producer.batch_enqueue([5]),
        ):
            with pytest.raises(RateLimitedError, match="to queue 'q' yet") as caught:
                refused()
            assert caught.value.retryable
            assert caught.value.queue == "q"
            assert 900 < caught.value.retry_after.total_seconds() <= 1_000
        assert producer.batch_enqueue([]) == []
        assert admin.queue_metrics("q").total_messages == 4
        other.enqueue(5)


@shows("max_enqueue_per_second")
def test_max_enqueue_per_second(dsn: str, admin: Admin) -> None:
    """Who waits as long as the refusal says is served then, and no faster than the limit."""
    admin.create_queue("q")
    with Producer(Config.from_dsn(dsn, max_enqueue_per_second=50), "q") as producer:
        begun = time.monotonic()
        producer.batch_enqueue(range(50))
        for number in range(10):
            try:
                producer.enqueue(number)
            except RateLimitedError as error:
                time.sleep(error.retry_after.total_seconds())
                producer.enqueue(number)
        assert time.monotonic() - begun > 0.15
    assert admin.queue_metrics("q").pending == 60


def test_the_status_of_a_producer(dsn: str, admin: Admin) -> None:
    """It tells limit, burst and what is there; without a limit there is none to tell of."""
    admin.create_queue("q")
    with Producer(limited(dsn, 2), "q") as producer, Producer(dsn, "q") as free:
        assert free.rate_limit_status() is None
        assert producer.rate_limit_status() == RateLimitStatus(SLOW, 2, 2, None)
        producer.batch_enqueue([1, 2])
        status = producer.rate_limit_status()
        assert status is not None
        assert status.available < 0.1
        assert status.retry_after is not None
        assert status.retry_after > dt.timedelta(seconds=900)


def test_a_refused_payload_costs_no_token(dsn: str) -> None:
    """Neither alone nor in a batch; what the server refuses was sent, and does."""
    config = limited(dsn, 2, validation={"forbidden_keys": ["password"]})
    with Producer(config, "no queue") as producer:
        for bad in ({1}, {"password": 1}):
            with pytest.raises(PayloadError):
                producer.enqueue(bad)
            with pytest.raises(PayloadError):
                producer.batch_enqueue([1, bad])
        with pytest.raises(ValueError, match="priority"):
            producer.enqueue(1, priority=99_999)
        assert producer.rate_limit_status() == RateLimitStatus(SLOW, 2, 2, None)
        with pytest.raises(QueueNotFoundError):
            producer.batch_enqueue([1, 2])
        with pytest.raises(RateLimitedError):
            producer.enqueue(1)


def test_a_batch_is_taken_whole(dsn: str, admin: Admin) -> None:
    """It has all of its tokens or takes none; one larger than the burst needs a full bucket."""
    admin.create_queue("q")
    with Producer(limited(dsn, 3), "q") as producer:
        producer.enqueue(1)
        for size, wait in ((3, 1_000), (9, 1_000)):
            with pytest.raises(RateLimitedError) as caught:
                producer.batch_enqueue(range(size))
            assert wait - 100 < caught.value.retry_after.total_seconds() <= wait
        producer.batch_enqueue([2, 3])
    with Producer(limited(dsn, 3, enqueue_chunk_rows=2), "q") as producer:
        assert len(producer.batch_enqueue(range(5))) == 5
        with pytest.raises(RateLimitedError) as caught:
            producer.enqueue(1)
        assert 2_900 < caught.value.retry_after.total_seconds() <= 3_000
    assert admin.queue_metrics("q").pending == 8


def test_a_batch_in_parts_takes_a_chunk_at_a_time(dsn: str, admin: Admin) -> None:
    """It breaks off where the tokens end, and is worth another try with what follows."""
    admin.create_queue("q")
    with Producer(limited(dsn, 5, enqueue_chunk_rows=2), "q") as producer:
        with pytest.raises(PartlyEnqueuedError) as caught:
            producer.batch_enqueue(range(9), atomic=False)
        assert (caught.value.enqueued, caught.value.retryable) == (4, True)
        assert isinstance(caught.value.__cause__, RateLimitedError)
        assert producer.batch_enqueue([9], atomic=False) == 1
    assert admin.queue_metrics("q").pending == 5


def test_within_a_transaction_of_the_callers(dsn: str, admin: Admin, engine: Engine) -> None:
    """It is the same producer with the same tokens; a rollback gives none back."""
    admin.create_queue("q")
    with Producer(limited(dsn, 2), "q") as producer, engine.connect() as connection:
        producer.within(connection).enqueue(1)
        connection.rollback()
        producer.enqueue(2)
        with pytest.raises(RateLimitedError):
            producer.within(connection).enqueue(3)
    assert admin.queue_metrics("q").pending == 1


def test_under_asyncio(dsn: str, admin: Admin) -> None:
    """The limit is the same there, and asking for it needs no waiting."""
    admin.create_queue("q")

    async def main() -> None:
        async with AsyncProducer(limited(dsn, 3, enqueue_chunk_rows=2), "q") as producer:
            assert producer.rate_limit_status() == RateLimitStatus(SLOW, 3, 3, None)
            await producer.enqueue(1)
            with pytest.raises(RateLimitedError):
                await producer.batch_enqueue([2, 3, 4])
            with pytest.raises(PartlyEnqueuedError) as caught:
                await producer.batch_enqueue([2, 3, 4], atomic=False)
            assert (caught.value.enqueued, caught.value.retryable) == (2, True)

    asyncio.run(main())
    assert admin.queue_metrics("q").pending == 3
