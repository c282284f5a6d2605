"""What is compiled is found by the statement itself, or by its shape, and never mixed up."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, Final

import pytest
from sqlalchemy import ColumnElement, create_engine, event, select, text
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.sql import column, table
from waiting import ask

from pgqrs import Admin, Config, Producer
from pgqrs.aio import AsyncProducer
from pgqrs.statement_cache import StatementCache, cache_of, shared

STREAMS: Final = {"stream_results": True}  # how a host may like its own results


class Key(tuple):  # type: ignore[type-arg]  # noqa: SLOT001 - counts
    """The key of a statement, which counts how often it is hashed."""

    hashed = 0

    def __hash__(self) -> int:
        Key.hashed += 1
        return super().__hash__()


def test_a_statement_that_is_known_is_not_hashed() -> None:
    """One that is alike is found by its shape, and the kind of dialect and the columns count."""
    cache = StatementCache()
    dialect, mine, alike, other = psycopg.dialect(), Key("a"), Key("a"), Key("b")
    cache[dialect, mine, ("x",)] = 1
    assert cache.get((dialect, mine, ("x",))) == 1
    before = Key.hashed
    assert cache.get((dialect, mine, ("x",))) == 1
    assert Key.hashed == before
    assert cache.get((dialect, alike, ("x",))) == 1
    assert Key.hashed > before
    assert cache.get((dialect, mine, ("y",))) is None
    assert cache.get((psycopg.dialect(), mine, ("x",))) == 1
    assert cache.get((psycopg.dialect_async(), mine, ("x",))) is None
    assert cache.get((dialect, other, ("x",)), 7) == 7


def test_it_stays_small() -> None:
    """However many statements there are that are made for one call."""
    cache = StatementCache()
    keys = [("dialect", Key((str(n),)), ()) for n in range(5000)]
    for key in keys:
        cache[key] = key
        assert cache.get(key) is key
    assert len(cache) <= 500
    assert cache.get(keys[-1]) is keys[-1]
    del cache[keys[-1]]
    assert cache.get(keys[-1]) is None
    with pytest.raises(KeyError):
        cache[keys[-1]]


def test_what_one_engine_compiled_the_next_one_finds(dsn: str) -> None:
    """A run has an engine of its own, and begins with statements that others have sent."""
    configs = [Config.from_dsn(dsn, max_connections=3 + n) for n in range(2)]
    found = shared(configs[0].schema_)
    known: list[list[Any]] = []
    for config in configs:
        with Admin(config) as admin:
            assert admin.list_queues() == []
        known.append(list(found))
    assert known[0]
    assert known[0] == known[1]
    assert shared("elsewhere") is not found


def test_engines_have_one(admin: Admin) -> None:
    """Statements that differ in a value only are compiled once, and give what each asked for."""
    compiled: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        compiled.append(statement)

    def asking(number: int) -> ColumnElement[bool]:
        return column("queue_name") == f"q{number}"

    queues = table("pgqrs_queues", column("queue_name"), schema="pgqrs")
    for number in range(3):
        admin.create_queue(f"q{number}")
    event.listen(admin.pool, "before_cursor_execute", note)
    with admin.pool.connect() as connection:
        for number in (0, 1, 2, 1):
            found = connection.scalar(select(queues.c.queue_name).where(asking(number)))
            assert found == f"q{number}"
        assert connection.execute(text("SELECT 1 AS one, 'a' AS two")).mappings().all() == [
            {"one": 1, "two": "a"}
        ]
    assert len(set(compiled[:4])) == 1
    with Producer(admin, "q1") as producer:
        assert [producer.enqueue(n).payload for n in range(3)] == [0, 1, 2]


def test_a_hosts_engine_keeps_its_own_for_its_own(dsn: str, admin: Admin) -> None:
    """What pgqrs sends there is in a cache of pgqrs's, the same for all objects of the engine."""
    admin.create_queue("q")
    host = create_engine(Config.from_dsn(dsn).url)
    again = host.execution_options(logging_token="again")
    for engine in (host, again):
        with Producer(engine, "q") as producer:
            producer.enqueue(1)
        assert cache_of(engine) is cache_of(host)
    assert len(cache_of(host)) > 0
    assert not host._compiled_cache  # type: ignore[attr-defined]
    host.dispose()

    async def life() -> int:
        twin = create_async_engine(Config.from_dsn(dsn).url, execution_options=STREAMS)
        async with AsyncProducer(twin, "q") as producer:
            await producer.enqueue(2)
            await producer.batch_enqueue([3, 4])
        assert not twin.sync_engine._compiled_cache  # type: ignore[attr-defined]
        known = len(cache_of(twin.sync_engine))
        await twin.dispose()
        return known

    assert asyncio.run(life()) > 0
    assert ask(admin.pool, "SELECT count(*) FROM pgqrs.pgqrs_messages") == 5


def test_what_was_compiled_for_a_host_goes_with_its_engine(dsn: str, admin: Admin) -> None:
    """Whoever makes many engines does not keep what each of them had compiled."""
    admin.create_queue("q")

    def life() -> weakref.ref[StatementCache]:
        host = create_engine(Config.from_dsn(dsn).url)
        with Producer(host, "q") as producer:
            producer.enqueue(1)
        kept = weakref.ref(cache_of(host))
        host.dispose()
        return kept

    kept = life()
    gc.collect()
    assert kept() is None
