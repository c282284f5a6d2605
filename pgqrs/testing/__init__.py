"""What tests of your own code need: messages looked for, work done inline, a clock that moves.

All of it works in the transaction that a test is in, which is rolled back at its end, and on real
PostgreSQL. The fixtures are in `pgqrs.testing.plugin`, the asyncio twins in `pgqrs.testing.aio`;
nothing here needs pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Unpack

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from pgqrs.config import Config
from pgqrs.message_info import MessageInfo
from pgqrs.runner import Report
from pgqrs.running import Sessions
from pgqrs.testing.bench import joining
from pgqrs.testing.expectation import ANY, Expectation, Traits
from pgqrs.testing.inline import InlineConsumer, bound_to
from pgqrs.testing.steps import listing, moving
from pgqrs.types import Duration, QueueInfo

__all__ = [
    "assert_enqueued",
    "assert_not_enqueued",
    "enqueued",
    "move_clock",
    "rolled_back",
    "work",
]


@contextmanager
def rolled_back(
    engine: Engine, make_session: Callable[..., Session] = Session
) -> Iterator[Session]:
    """Give a Session whose commits are savepoints: when the block ends, nothing has happened.

    `make_session` is a sessionmaker or a Session class of yours; what it is bound to is not used.
    """
    with engine.connect() as connection, connection.begin() as everything:
        try:
            with make_session(**joining(connection)) as session:
                yield session
        finally:
            everything.rollback()


def work(
    bind: Any,
    queue: str | QueueInfo,
    handler: Callable[..., Any],
    *,
    session: Sessions | None = None,
    batch_size: int | None = None,
    at_most: int | None = None,
    raises: bool = False,
    config: Config | None = None,
) -> Report:
    """Work at a queue here and now until nothing is due, and say what it came to.

    `bind` is what a Consumer takes; on a Session or Connection all of it is in that transaction.
    Handlers get what they do in `Consumer.run`, and what they return or raise means the same. With
    a sessionmaker as `session` they get a session of it in that transaction, whose commits are
    savepoints. What they enqueue is worked too if it is due, as is what failed and is due again at
    once. `at_most` limits how many messages are worked. With `raises` the first exception that ends
    an attempt ends the work, and is raised once that is settled; without it only what is no
    Exception, such as that of pytest.fail(). Raises QueueNotFoundError, ValueError, TypeError, and
    InvalidStateError where a handler rolls back that transaction.
    """
    with InlineConsumer(bind, queue, config=config) as consumer:
        return consumer.work(handler, session, batch_size, at_most, raises=raises)


def move_clock(bind: Any, by: Duration, *, config: Config | None = None) -> None:
    """Let time pass: all that is delayed, leased, kept or held back by a key is `by` older.

    One statement moves the stored times of all queues back, in the transaction of `bind` if it is
    one. What is not stored does not move: the clocks of the server and of this process. Raises
    ValueError where `by` is negative: time goes one way.
    """
    with bound_to(bind, config) as binding:
        binding.run(moving(binding.schema, by))


def enqueued(
    bind: Any,
    queue: str | QueueInfo,
    payload: Any = ANY,
    *,
    config: Config | None = None,
    **traits: Unpack[Traits],
) -> list[MessageInfo]:
    """Give the messages in a queue that are as expected, the oldest first, leased or not.

    `payload` is all of it; `containing` a part, as in jsonb's @>; a Message also says its type. The
    other traits are the `message_type` and the options of MessageOptions; what is not given, or
    None, is not looked at.
    Raises QueueNotFoundError, and TypeError or ValueError for what no message can have.
    """
    expected = Expectation(payload, traits)
    return list(filter(expected.fits, _messages(bind, queue, config)))


def assert_enqueued(
    bind: Any,
    queue: str | QueueInfo,
    payload: Any = ANY,
    *,
    config: Config | None = None,
    **traits: Unpack[Traits],
) -> MessageInfo:
    """Give the oldest message in a queue that is as expected, leased or not.

    Where there is none, raises AssertionError and lists what is there. Otherwise as `enqueued`.
    """
    __tracebackhide__ = True
    expected = Expectation(payload, traits)
    return expected.found_in(queue, _messages(bind, queue, config))


def assert_not_enqueued(
    bind: Any,
    queue: str | QueueInfo,
    payload: Any = ANY,
    *,
    config: Config | None = None,
    **traits: Unpack[Traits],
) -> None:
    """Raise AssertionError where a message in a queue is so, and list those that are.

    Otherwise as `enqueued`.
    """
    __tracebackhide__ = True
    expected = Expectation(payload, traits)
    expected.missing_in(queue, _messages(bind, queue, config))


def _messages(bind: Any, queue: str | QueueInfo, config: Config | None) -> list[MessageInfo]:
    with bound_to(bind, config) as binding:
        return binding.run(listing(binding.schema, queue))
