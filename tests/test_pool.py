"""The pool of pgqrs's own engines: what stays at hand between calls is nobody's loss."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError
from waiting import ask, until

from pgqrs import (
    Admin,
    Config,
    Consumer,
    LeaseLostError,
    Producer,
    QueueMessage,
    UnavailableError,
)
from pgqrs.call import call
from pgqrs.pool import HandyPool

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
END_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def narrow(dsn: str) -> Config:
    """Give a configuration whose pool has one connection, with the queue `q`."""
    config = Config.from_dsn(dsn, max_connections=3, connection_timeout_seconds=5)
    with Admin(config) as admin:
        admin.create_queue("q")
    return config


@pytest.fixture
def their(narrow: Config) -> Iterator[Admin]:
    """Give an admin on that pool."""
    with Admin(narrow) as admin:
        yield admin


def counted(engine: Engine) -> list[str]:
    taken: list[str] = []
    event.listen(engine, "checkout", lambda *_: taken.append("out"))
    event.listen(engine, "checkin", lambda *_: taken.append("in"))
    return taken


def test_calls_leave_the_pool_alone(dsn: str) -> None:
    """What one call leaves is for the next, whoever makes it."""
    config = Config.from_dsn(dsn, enable_listen_notify=False)  # or a thread notifies besides
    with (
        Admin(config) as admin,
        Producer(config, "q") as producer,
        Consumer(config, "q") as consumer,
    ):
        admin.create_queue("q")
        producer.enqueue(0)
        consumer.dequeue()
        taken = counted(admin.pool)
        for number in range(5):
            producer.enqueue(number)
            message = consumer.dequeue()
            assert message is not None
            consumer.archive(message)
        assert taken == []


def test_who_needs_one_of_the_pool_gets_it(narrow: Config, their: Admin) -> None:
    """The only one; and while that is in use, a call waits for it as for any."""
    with Producer(narrow, "q") as producer:
        producer.enqueue(1)
        with their.pool.connect() as connection:
            calling = threading.Thread(target=producer.enqueue, args=(2,))
            calling.start()
            calling.join(0.3)
            assert calling.is_alive()
            assert connection.scalar(text("SELECT count(*) FROM pgqrs.pgqrs_messages")) == 1
        calling.join(5)
        assert not calling.is_alive()
        assert their.queue_metrics("q").pending == 2


def at_hand(admin: Admin) -> tuple[HandyPool, Connection]:
    """Take the connection that a call has left."""
    pool = admin.pool.pool
    assert isinstance(pool, HandyPool)
    connection = pool.take()
    assert connection is not None
    return pool, connection


def test_who_waits_gets_what_a_call_leaves(their: Admin) -> None:
    """Although it would otherwise stay at hand."""
    their.list_queues()
    pool, held = at_hand(their)
    got: list[Any] = []

    def wait() -> None:
        with their.pool.connect() as connection:
            got.append(connection.scalar(text("SELECT 1")))

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    pool.keep(held)
    waiting.join(5)
    assert got == [1]


def test_transactions_of_ours_find_room(their: Admin) -> None:
    """Calls of several statements take turns with those of one."""
    for _ in range(3):
        their.create_queue("other")
        their.delete_queue("other")
        assert [queue.queue_name for queue in their.list_queues()] == ["q"]


def test_one_that_was_lost_is_replaced(admin: Admin, config: Config, engine: Engine) -> None:
    """Without an error: the socket tells."""
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        producer.enqueue(1)
        assert ask(engine, END_ALL) > 0
        until(lambda: ask(engine, CONNECTIONS) == 1)
        producer.enqueue(2)
        assert admin.queue_metrics("q").pending == 2


@pytest.mark.parametrize("give", [HandyPool.keep, HandyPool.give_back])
def test_none_is_left_behind(config: Config, engine: Engine, give: Any) -> None:
    """Nor comes any back once its engine is disposed, whether its call went well or not."""
    with Admin(config) as admin:
        admin.create_queue("q")
        pool, late = at_hand(admin)
    give(pool, late)
    assert pool.take() is None
    until(lambda: ask(engine, CONNECTIONS) == 1)


def test_one_that_was_lost_on_the_way_is_not_kept(admin: Admin, config: Config) -> None:
    """Although the call itself went well."""
    admin.create_queue("q")
    with Producer(config, "q") as producer:

        def lose(connection: Connection) -> None:
            with suppress(OperationalError):
                end_of_it(connection)

        producer.binding.run(call(lose))
        producer.enqueue(1)
        assert admin.queue_metrics("q").pending == 1


def test_a_loss_is_one_of_all_that_are_at_hand(admin: Admin) -> None:
    """As in any pool: what is older than the loss is replaced when it is taken."""
    admin.list_queues()
    pool, first = at_hand(admin)
    other = admin.binding.run(call(backend))
    pool.keep(first)
    with pytest.raises(UnavailableError):
        admin.binding.run(call(end_of_it))
    assert pool.take() is None
    assert admin.binding.run(call(backend)) != other


def test_so_is_one_that_was_lost_outside_of_calls(config: Config) -> None:
    """Whoever meets it: all that are at hand are as old."""
    with Admin(config) as admin, admin.pool.connect() as connection:
        before = admin.binding.run(call(backend))
        with suppress(OperationalError):
            end_of_it(connection)
        assert admin.binding.run(call(backend)) != before


def test_one_that_is_lost_as_soon_as_it_is_made(admin: Admin, engine: Engine) -> None:
    """Twice in a row too: the server is not available then, and may be later."""
    admin.list_queues()

    def lose(dbapi: Any, _record: object) -> None:
        with socket.socket(fileno=os.dup(dbapi.pgconn.socket)) as its:
            its.shutdown(socket.SHUT_RDWR)

    event.listen(admin.pool, "connect", lose)
    assert ask(engine, END_ALL) == 1
    for _ in range(2):
        with pytest.raises(UnavailableError):
            admin.list_queues()
    event.remove(admin.pool, "connect", lose)
    assert admin.list_queues() == []


def backend(connection: Connection) -> Any:
    return connection.scalar(text("SELECT pg_backend_pid()"))


def end_of_it(connection: Connection) -> None:
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_after_an_error_none_is_kept(admin: Admin, config: Config) -> None:
    """What an error left behind on a connection is the pool's to mend."""
    admin.create_queue("q")
    taken = counted(admin.pool)
    with Consumer(config, "q") as consumer:
        with pytest.raises(LeaseLostError):
            consumer.archive(leased(consumer, admin))
        assert taken[0] == "in"


def leased(consumer: Consumer, admin: Admin) -> QueueMessage:
    """Lease a message that is purged then."""
    with Producer(consumer, "q") as producer:
        producer.enqueue(1)
    message = consumer.dequeue()
    assert message is not None
    admin.purge_queue("q")
    return message
