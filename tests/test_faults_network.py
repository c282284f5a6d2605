"""A bad network between the server and the processes at work, and the queue keeps every promise.

Slow, reset, cut in the middle of a message of the protocol, silent, and without the one reply that
matters. All on TCP; the judge of `history` has the last word.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from history import Operation
from lossy import Lossy, lossy
from processes import DONE, Crowd, crowd_on
from run_client import QUEUE
from sqlalchemy import URL
from waiting import until

from pgqrs import Admin, Config, Consumer, OutcomeUnknownError, Producer

ENQUEUE, ACKNOWLEDGE = b'"key"', rb"read_ct\":"
"""What only the statements have that add messages, and that archive what handlers gave."""
HERE = "127.0.0.1"


class Network:
    """Two proxies, so that what is lost is said of one side: workers, or producers."""

    def __init__(self, crowd: Crowd, workers: Lossy, producers: Lossy) -> None:
        self.crowd = crowd
        self.workers = workers
        self.producers = producers
        self.both = (workers, producers)
        self.chance = random.Random(1)

    def slow(self, seconds: float) -> None:
        """A round trip takes forty milliseconds more."""
        for proxy in self.both:
            proxy.latency = 0.02
        self.goes_on(seconds)
        for proxy in self.both:
            proxy.latency = 0.0

    def resetting(self, seconds: float) -> None:
        """All connections are reset five times a second."""
        self.repeat(seconds, 0.2, lambda: [proxy.reset() for proxy in self.both])

    def cutting(self, seconds: float) -> None:
        """Each connection breaks after some bytes, wherever that is."""
        for proxy in self.both:
            proxy.allowance = lambda: self.chance.randrange(1_000, 60_000)
            proxy.reset()
        self.goes_on(seconds)
        for proxy in self.both:
            proxy.allowance = None
            proxy.reset()

    def black(self, seconds: float) -> None:
        """Nothing comes through, and nobody is told; new connections are no better."""
        self.crowd.until_more()
        with self.workers.darkness() as held:
            assert held
            time.sleep(seconds / 2)
        self.crowd.until_more()

    def forgetting(self, seconds: float) -> None:
        """The replies to enqueues and to acknowledgements are lost, again and again."""
        self.repeat(seconds, 0.2, self.forget)

    def forget(self) -> None:
        done = self.chance.random() < 0.8  # or the server never heard of it
        self.producers.lose(ENQUEUE, done=done)
        self.workers.lose(ACKNOWLEDGE, done=done)
        until(lambda: all(proxy.is_spent for proxy in self.both), DONE)

    def repeat(self, seconds: float, pause: float, act: Callable[[], object]) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            act()
            time.sleep(pause)
        self.crowd.until_more()

    def goes_on(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.crowd.until_more()


FAULTS: list[Callable[[Network, float], None]] = [
    Network.slow,
    Network.resetting,
    Network.cutting,
    Network.black,
    Network.forgetting,
]


@pytest.fixture
def network(url: URL, admin: Admin, tmp_path: Path) -> Iterator[Network]:
    admin.create_queue(QUEUE)
    with (
        lossy(url, address=HERE) as (workers, there),
        lossy(url, address=HERE) as (producers, here),
        crowd_on(text_of(url), tmp_path) as crowd,
    ):
        crowd.dsn, crowd.sends_to = text_of(there), text_of(here)
        yield Network(crowd, workers, producers)


def text_of(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def working(crowd: Crowd) -> Iterator[None]:
    """Have two workers, and producers with and without ids of their own, and judge at the end.

    What was sent with an id is there once, however often the reply was lost.
    """
    soon: dict[str, float] = {"timeout": 1}
    workers = [crowd.worker(lease=1, **soon), crowd.worker(lease=1, **soon)]
    producers = [crowd.producer(pause=0.1, **soon), crowd.producer(pause=0.1, keyed=True, **soon)]
    crowd.until_more()
    yield
    rest = crowd.finish(producers, workers)
    keyed = [key for o in crowd.operations_of(3) if o.answered for key in o.keys]
    assert keyed
    assert set(keyed) <= {row.key for row in rest}
    for end in crowd.ends():
        assert end["threads"] <= 8
        assert end["descriptors"] <= 40


def test_a_bad_network(network: Network) -> None:
    """Slow, reset, cut, black and forgetful in turn: the work goes on after each, all is kept."""
    with working(network.crowd):
        for fault in FAULTS:
            fault(network, 0.5)
        while len(unanswered(network.crowd)) < 2:  # the other producer may have had the faults,
            network.forgetting(0.5)  # and one of these may only be under way
    assert unanswered(network.crowd), "some enqueues had no answer"


def unanswered(crowd: Crowd) -> list[Operation]:
    """Give the enqueues without ids of which nobody knows whether they were done."""
    return [o for o in crowd.operations_of(2) if o.answered is None]


@pytest.fixture
def route() -> str:
    """An address of this machine that nobody else uses."""
    high, low = divmod(os.getpid() % 65536, 256)
    return f"127.{100 + high % 100}.{low}.9"


@contextmanager
def without(route: str) -> Iterator[None]:
    """Have packets to an address of this machine go nowhere, and nobody be told."""
    to = ["blackhole", route, "table", "local"]
    try:
        subprocess.run(["ip", "route", "add", *to], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no route can be changed here: {error}")
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "del", *to], check=True)


def test_a_route_is_lost(url: URL, admin: Admin, route: str) -> None:
    """Who sends into nothing is told after the query timeout, and not after a quarter of an hour.

    An enqueue is in doubt then, and everything works when the route is there again.
    """
    admin.create_queue(QUEUE)
    with lossy(url, address=route) as (_, there):
        config = Config.from_dsn(text_of(there), query_timeout_seconds=1)
        with Producer(config, QUEUE) as producer:
            producer.enqueue(1)
            with without(route):
                begun = time.monotonic()
                with pytest.raises(OutcomeUnknownError):
                    producer.enqueue(2)
                assert time.monotonic() - begun < 15
            producer.enqueue(3)
    with Consumer(admin, QUEUE) as consumer:
        assert [m.payload for m in consumer.dequeue_batch(3)] == [1, 3]


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_network_at_length(network: Network, fault: Callable[..., None]) -> None:
    """Each for half a minute."""
    with working(network.crowd):
        fault(network, 30)
