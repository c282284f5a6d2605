"""In the caller's transaction: done with it or not at all, and nothing else is done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from host import (
    KINDS,
    Base,
    Watch,
    is_usable,
    order,
    settings_of,
    state_of,
    transaction,
)
from sqlalchemy import Engine, create_engine, text

from pgqrs import (
    Admin,
    Config,
    Consumer,
    InvalidStateError,
    LeaseLostError,
    PayloadError,
    PgqrsError,
    Producer,
    QueueNotFoundError,
)

pytestmark = pytest.mark.matrix

EXPIRE: Final = "UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 hour'"


class Cast:
    """A producer and a consumer that holds two messages, with one more due."""

    def __init__(self, bind: Any, config: Config) -> None:
        self.bind = bind
        self.producer = Producer(bind, "q", config=config)
        self.consumer = Consumer(bind, "q", config=config)
        self.messages = self.producer.batch_enqueue([0, 1, 2])
        if self.producer._ringer is not None:  # which would send what it owes at some moment
            self.producer._ringer.close()
        self.first, self.second = self.consumer.dequeue_batch(2)

    def close(self) -> None:
        self.producer.close()
        self.consumer.close()


@pytest.fixture
def host(engine: Engine, admin: Admin) -> Engine:
    """The host's engine on a database with its table and a queue."""
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    return engine


@pytest.fixture(params=["own engine", "host's engine"])
def cast(request: pytest.FixtureRequest, host: Engine, config: Config) -> Iterator[Cast]:
    small = config.model_copy(update={"enqueue_chunk_rows": 2})
    cast = Cast(small if request.param == "own engine" else host, small)
    yield cast
    cast.close()


Act = Callable[[Cast, Any], Any]
ACTS: Final[dict[str, Act]] = {
    "enqueue": lambda cast, x: cast.producer.within(x).enqueue({}),
    "enqueue_delayed": lambda cast, x: cast.producer.within(x).enqueue_delayed({}, 60),
    "batch_enqueue": lambda cast, x: cast.producer.within(x).batch_enqueue([1, 2]),
    "batch_enqueue in chunks": lambda cast, x: cast.producer.within(x).batch_enqueue(range(7)),
    "postpone": lambda cast, x: cast.producer.within(x).extend_visibility(cast.messages[2], 9),
    "dequeue": lambda cast, x: cast.consumer.within(x).dequeue(),
    "archive": lambda cast, x: cast.consumer.within(x).archive(cast.first),
    "archive by id": lambda cast, x: cast.consumer.within(x).archive(cast.first.id),
    "archive_batch": lambda cast, x: cast.consumer.within(x).archive_batch([cast.first]),
    "delete": lambda cast, x: cast.consumer.within(x).delete(cast.first),
    "delete_batch": lambda cast, x: cast.consumer.within(x).delete_batch([cast.first]),
    "extend": lambda cast, x: cast.consumer.within(x).extend_visibility(cast.first, 99),
    "release": lambda cast, x: cast.consumer.within(x).release(cast.first),
    "fail": lambda cast, x: cast.consumer.within(x).fail(cast.first, "no"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_nothing_is_done_to_it(cast: Cast, host: Engine, kind: str) -> None:
    """No commit, rollback, begin, savepoint or close; no connection taken; no option changed."""
    cast.producer.heartbeat()
    with transaction(kind, host) as joined:
        watch = Watch(host)
        if kind != "connection":
            watch.over(joined if kind == "session" else joined())
        for name, act in ACTS.items():
            if name.startswith(("archive", "delete", "release", "fail", "extend")):
                continue
            before = settings_of(host, joined)
            act(cast, joined)
            assert watch.seen == [], name
            assert settings_of(host, joined) == before, name
        consumer = cast.consumer.within(joined)
        consumer.extend_visibility(cast.first, 60)
        consumer.archive(cast.first)
        consumer.release(cast.second)
        assert consumer.dequeue() is not None
        assert watch.seen == []
        assert is_usable(joined)
        joined.rollback()


def test_host_engine_is_left_as_it_was(host: Engine, config: Config) -> None:
    """Calls on a host's engine take and give back a connection, and leave no trace on it."""
    with host.connect() as connection:
        connection.execute(text("SELECT 1"))
        before = connection.get_isolation_level()
    options = dict(host.get_execution_options())
    watch = Watch(host)
    cast = Cast(host, config)
    cast.consumer.archive(cast.first)
    cast.close()
    assert "engine_disposed" not in watch.seen
    assert "close" not in watch.seen
    assert watch.seen.count("checkout") == watch.seen.count("checkin")
    assert host.get_execution_options() == options
    with host.connect() as connection:
        assert connection.get_isolation_level() == before
        assert not connection.connection.driver_connection.autocommit  # type: ignore[union-attr]
        order(connection)
    assert state_of(host)[0] == 0


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT"])
def test_host_engine_of_another_level(host: Engine, config: Config, level: str) -> None:
    """A host's engine keeps its isolation level; ours are READ COMMITTED or autocommit there."""
    engine = create_engine(host.url, isolation_level=level, pool_size=1, max_overflow=0)
    cast = Cast(engine, config.model_copy(update={"enqueue_chunk_rows": 1}))
    cast.consumer.archive(cast.first)
    with engine.connect() as connection:
        autocommits = connection.connection.driver_connection.autocommit  # type: ignore[union-attr]
        assert autocommits is (level == "AUTOCOMMIT")
        assert connection.get_isolation_level() == ("READ COMMITTED" if autocommits else level)
    cast.close()
    engine.dispose()


def test_rolled_back_acknowledgement_can_be_made_again(cast: Cast, host: Engine) -> None:
    """An acknowledgement that was rolled back was none: the lease is held, by id and by object."""
    undo: list[Callable[[Consumer], Any]] = [
        lambda within: within.archive(cast.first.id),
        lambda within: within.delete(cast.first),
        lambda within: within.release(cast.first.id),
        lambda within: within.archive_batch([cast.first, cast.second.id]),
        lambda within: within.delete_batch([cast.first.id]),
    ]
    for act in undo:
        with host.connect() as connection:
            act(cast.consumer.within(connection))
            connection.rollback()
    assert cast.consumer.archive(cast.first.id).id == cast.first.id
    cast.consumer.delete(cast.second)
    with pytest.raises(LeaseLostError):
        cast.consumer.archive(cast.first)


def test_committed_acknowledgement_is_one(cast: Cast, host: Engine) -> None:
    """An acknowledgement that was committed cannot be made again, within or without."""
    with host.begin() as connection:
        cast.consumer.within(connection).archive(cast.first)
    for held in (cast.first, cast.first.id):
        with pytest.raises(LeaseLostError):
            cast.consumer.archive(held)
    assert cast.consumer.archive_batch([cast.first, cast.second]) == [False, True]


def test_rolled_back_lease_gives_the_attempt_back(cast: Cast, host: Engine) -> None:
    """A lease that is rolled back was none: the message is due again, and no attempt is spent."""
    for _ in range(10):
        with host.connect() as connection:
            message = cast.consumer.within(connection).dequeue()
            assert message is not None
            assert message.attempts == 1
            connection.rollback()
    message = cast.consumer.dequeue()
    assert message is not None
    assert (message.id, message.attempts) == (cast.messages[2].id, 1)


def steal(host: Engine) -> None:
    """Have every lease run out, and take the messages elsewhere."""
    with host.begin() as connection:
        connection.execute(text(EXPIRE))
    with Consumer(host, "q", "elsewhere", 1) as thief:
        assert len(thief.dequeue_batch(3)) == 3


def enqueue_nowhere(cast: Cast, joined: Any) -> None:
    with Producer(cast.bind, "no") as producer:
        producer.within(joined).enqueue(1)


REFUSED: Final[dict[str, tuple[type[PgqrsError], Act]]] = {
    "payload": (PayloadError, lambda cast, x: cast.producer.within(x).enqueue({1: 1})),
    "batch": (PayloadError, lambda cast, x: cast.producer.within(x).batch_enqueue([1, "\0"])),
    "output": (
        PayloadError,
        lambda cast, x: cast.consumer.within(x).archive(cast.first, output={1}),
    ),
    "queue": (QueueNotFoundError, enqueue_nowhere),
    "queue, directly": (QueueNotFoundError, lambda _, x: Producer(x, "no").enqueue(1)),
    "batch, directly": (QueueNotFoundError, lambda _, x: Producer(x, "no").batch_enqueue([1])),
    "lease, directly": (QueueNotFoundError, lambda _, x: Consumer(x, "no").dequeue()),
    "administration": (QueueNotFoundError, lambda _, x: Admin(x).pause_queue("no")),
    "id": (LeaseLostError, lambda cast, x: cast.consumer.within(x).archive(10**9)),
    "archive": (LeaseLostError, lambda cast, x: cast.consumer.within(x).archive(cast.first)),
    "delete": (LeaseLostError, lambda cast, x: cast.consumer.within(x).delete(cast.first)),
    "release": (LeaseLostError, lambda cast, x: cast.consumer.within(x).release(cast.first)),
    "extend": (
        LeaseLostError,
        lambda cast, x: cast.consumer.within(x).extend_visibility(cast.first, 1),
    ),
    "fail": (LeaseLostError, lambda cast, x: cast.consumer.within(x).fail(cast.first, "no")),
}


@every_kind
def test_refusal_leaves_the_transaction_usable(cast: Cast, host: Engine, kind: str) -> None:
    """What pgqrs refuses does not abort the caller's transaction: it goes on, and commits."""
    steal(host)
    with transaction(kind, host) as joined:
        order(joined)
        for name, (error, act) in REFUSED.items():
            with pytest.raises(error):
                act(cast, joined)
            assert is_usable(joined), name
        assert cast.consumer.within(joined).archive_batch([cast.first, cast.second]) == [False] * 2
        order(joined)
        joined.commit()
    assert state_of(host)[0] == 2


def test_closed_worker_joins_nothing(cast: Cast, host: Engine) -> None:
    """A closed object is closed for transactions too."""
    cast.close()
    with transaction("connection", host) as joined:
        for worker in (cast.producer, cast.consumer):
            with pytest.raises(InvalidStateError, match="closed"):
                worker.within(joined)
