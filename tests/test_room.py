"""How many messages a worker leases ahead: more while handlers are quick."""

from __future__ import annotations

import pytest

from pgqrs import Config
from pgqrs.runner.room import Ahead, Room
from pgqrs.running import handling


class Clock:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def leases(ahead: Ahead, clock: Clock, *gaps: float, full: bool = True) -> int:
    """Lease after each of these seconds; gives what is leased ahead then."""
    for gap in gaps:
        clock.now += gap
        ahead.leased(full=full)
    return ahead.count


def test_quick_handlers_get_more(clock: Clock) -> None:
    """Twice as many with each lease that came soon after the last, up to the most."""
    ahead = Ahead(10, 100, clock=clock)
    assert leases(ahead, clock, 5) == 10
    assert leases(ahead, clock, 0.01) == 20
    assert leases(ahead, clock, 0.01, 0.01) == 80
    assert leases(ahead, clock, 0.04, 0.04, 0.04) == 100


def test_a_short_queue_is_no_reason_for_more(clock: Clock) -> None:
    """What was not found cannot have been too little."""
    assert leases(Ahead(10, 100, clock=clock), clock, 0, 0.01, 0.01, full=False) == 10


def test_slow_handlers_get_few_at_once(clock: Clock) -> None:
    """And those in between keep what they have."""
    ahead = Ahead(1, 100, clock=clock)
    assert leases(ahead, clock, 0, *[0.01] * 5) == 32
    assert leases(ahead, clock, 0.1, 0.1) == 32
    assert leases(ahead, clock, 0.3) == 1


def test_too_many_end_by_themselves(clock: Clock) -> None:
    """When nothing was leased for a while: handlers have turned slow."""
    ahead = Ahead(10, 100, clock=clock)
    assert ahead.ends_in() == float("inf")
    assert leases(ahead, clock, 0, 0.01) == 20
    clock.now += 0.15
    assert ahead.ends_in() == pytest.approx(0.05)
    clock.now += 1
    assert ahead.ends_in() == 0
    ahead.end()
    assert (ahead.count, ahead.ends_in()) == (10, float("inf"))


def test_of_batches_one_more_or_none(clock: Clock) -> None:
    """Half a batch ahead would be a batch of its own."""
    ahead = Ahead(0, 50, 50, clock)
    assert leases(ahead, clock, 0) == 0
    assert leases(ahead, clock, 0.01, 0.01) == 50
    assert leases(ahead, clock, 0.3) == 0


def test_a_given_number_is_kept(clock: Clock) -> None:
    """Also none at all."""
    assert leases(Ahead(0, 0, clock=clock), clock, 0, 0.01, 0.01) == 0
    assert leases(Ahead(7, 7, clock=clock), clock, 0, 0.01, 0.01) == 7


@pytest.mark.parametrize(
    ("settings", "prefetch", "batch_size", "ahead"),
    [
        ({}, None, None, (10, 100)),
        ({"max_batch_size": 500}, None, None, (10, 500)),
        ({"max_batch_size": 5}, None, None, (10, 10)),
        ({"prefetch_count": 10}, None, None, (10, 10)),
        ({"prefetch_count": 0}, None, None, (0, 0)),
        ({}, 3, None, (3, 3)),
        ({"prefetch_count": 20}, 3, None, (3, 3)),
        ({}, None, 40, (0, 40)),
        ({"prefetch_count": 20}, None, 40, (0, 0)),
        ({"prefetch_count": 100}, None, 40, (80, 80)),
        ({}, 3, 40, (0, 0)),
        ({}, 40, 40, (40, 40)),
    ],
)
def test_who_says_how_many(
    settings: dict[str, int],
    prefetch: int | None,
    batch_size: int | None,
    ahead: tuple[int, int],
) -> None:
    """The call before the configuration; where neither does, it depends on the handlers."""
    config = Config.from_dsn("postgresql://unused", **settings)
    how = {"batch": False, "batch_size": batch_size, "timeout": None}
    found = handling(print, config, 1, prefetch, **how).room
    assert found == Room(1, batch_size or 0, *ahead, None)
