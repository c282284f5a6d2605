"""Whose asyncio connection, and whose transaction, a call runs in: the twin of `pgqrs.binding`.

The call's step is a plain function of a sync Connection, as `run_sync` gives it.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.util import greenlet_spawn

from pgqrs import engines as sync_engines
from pgqrs import models
from pgqrs.aio import engines
from pgqrs.call import PAUSES, Call
from pgqrs.config import Config
from pgqrs.errors import OutcomeUnknownError, UnavailableError
from pgqrs.joining import AT_ONCE, entered
from pgqrs.statement_cache import cache_of
from pgqrs.translation import translated

__all__ = [
    "AsyncBinding",
    "AsyncConnectionBinding",
    "AsyncEngineBinding",
    "AsyncJoined",
    "AsyncSessionBinding",
    "bound",
    "joined",
]

T = TypeVar("T")

AsyncJoined = AsyncSession | async_scoped_session[Any] | AsyncConnection
"""What `within` takes: a transaction of the caller's."""


class AsyncBinding:
    """Where calls run: see the subclasses."""

    config: Config
    is_joined: bool

    @property
    def schema(self) -> str:
        """The schema of the tables."""
        return self.config.schema_

    async def run(self, call: Call[T]) -> T:
        """Run a call and give what it gives. Raises pgqrs's errors for the driver's."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back what this binding owns."""


class AsyncEngineBinding(AsyncBinding):
    """Each call on a connection of its own: in autocommit, or in a transaction if it must be.

    `source` is the host's AsyncEngine, or pgqrs's own engines, one for each running loop.
    """

    is_joined = False

    def __init__(self, source: AsyncEngine | engines.Engines, config: Config) -> None:
        self.source = source
        self.config = config
        self._closed = False
        # The same pool, and nothing of the host's engine is changed; our own are so already.
        self._how = AT_ONCE
        self._autocommit: AsyncEngine | None = None
        if isinstance(source, AsyncEngine):
            self._how = {**AT_ONCE, "compiled_cache": cache_of(source.sync_engine)}
            self._autocommit = source.execution_options(isolation_level="AUTOCOMMIT", **self._how)

    @property
    def engine(self) -> AsyncEngine:
        """The engine; of pgqrs's own, that of the running loop."""
        return self.source.here() if isinstance(self.source, engines.Engines) else self.source

    @property
    def place(self) -> Any:
        """What objects that share workers and heartbeats have in common."""
        return self.source if isinstance(self.source, engines.Engines) else self.source.sync_engine

    async def run(self, call: Call[T]) -> T:
        for pause in PAUSES if call.repeats else ():
            try:
                return await self._run_once(call)
            except (OutcomeUnknownError, UnavailableError):
                await asyncio.sleep(pause)
        return await self._run_once(call)

    def apart(self) -> Engine:
        """Give a sync engine of psycopg to the same server, for one connection of a thread."""
        if isinstance(self.source, engines.Engines):
            return sync_engines.single(self.config)
        return sync_engines.beside(self.source.url)

    async def run_apart(self, call: Call[T]) -> T:
        """Run a call while the caller may hold the only connection of the host's pool."""
        if isinstance(self.source, engines.Engines):
            return await self.run(call)
        host = self.source.sync_engine
        engine = create_async_engine(  # as the host's connections are made
            host.url, pool=host.pool.recreate(), paramstyle=host.dialect.paramstyle
        )
        try:
            return await AsyncEngineBinding(engine, self.config).run(call)
        finally:
            await engine.dispose()

    async def close(self) -> None:
        if isinstance(self.source, engines.Engines) and not self._closed:
            self._closed = True
            await engines.release(self.source)

    async def _run_once(self, call: Call[T]) -> T:
        # All of it in one greenlet: AsyncEngine and AsyncConnection would make three of it.
        with translated(self.schema, changes=call.changes):
            return await greenlet_spawn(lambda: self._on_a_connection(call))

    def _on_a_connection(self, call: Call[T]) -> T:
        if call.together:
            engine = self.engine.sync_engine.execution_options(
                isolation_level="READ COMMITTED", **self._how
            )
            with engine.begin() as connection:
                return call.step(connection)
        with (self._autocommit or self.engine).sync_engine.connect() as connection:
            return call.step(connection)


class AsyncConnectionBinding(AsyncBinding):
    """Within the transaction of an AsyncConnection of the caller's."""

    is_joined = True

    def __init__(self, connection: AsyncConnection, config: Config) -> None:
        self.connection = connection
        self.config = config

    async def run(self, call: Call[T]) -> T:
        with translated(self.schema):
            return await self.connection.run_sync(lambda one: call.step(entered(one)))


class AsyncSessionBinding(AsyncBinding):
    """Within the transaction of an AsyncSession of the caller's."""

    is_joined = True

    def __init__(self, session: AsyncSession | async_scoped_session[Any], config: Config) -> None:
        self.session = session
        self.config = config

    async def run(self, call: Call[T]) -> T:
        given = self.session
        session: AsyncSession = given() if isinstance(given, async_scoped_session) else given
        if session.autoflush and not session.sync_session._flushing:  # noqa: SLF001 - as in sync
            await session.flush()
        with translated(self.schema):
            connection = await session.connection(bind_arguments={"mapper": models.Message})
            return await connection.run_sync(lambda one: call.step(entered(one)))


def bound(bind: Any, config: Config | None = None) -> AsyncBinding:
    """Give the binding for `bind`; opens no connection.

    A DSN or URL reads the environment and files for everything but the database. Raises TypeError
    for what gives no asyncio connections, naming the sync class for sync objects.
    """
    shared = getattr(bind, "binding", None)
    if isinstance(shared, AsyncBinding):
        own = isinstance(shared, AsyncEngineBinding) and isinstance(shared.source, engines.Engines)
        if not own:
            return shared
        bind = shared.config
    if isinstance(bind, str | URL):
        text = bind if isinstance(bind, str) else bind.render_as_string(hide_password=False)
        bind = Config.load(text)
    if isinstance(bind, Config):
        return AsyncEngineBinding(engines.acquire(bind), bind)
    if isinstance(bind, async_sessionmaker):
        session = bind()
        bind = AsyncEngine(session.sync_session.get_bind(mapper=models.Message))
    if isinstance(bind, AsyncEngine):
        return AsyncEngineBinding(bind, config or Config())
    return joined(bind, config or Config())


def joined(bind: Any, config: Config) -> AsyncBinding:
    """Give the binding within the transaction of an AsyncSession or AsyncConnection."""
    if isinstance(bind, AsyncConnection):
        return AsyncConnectionBinding(bind, config)
    if isinstance(bind, AsyncSession | async_scoped_session):
        return AsyncSessionBinding(bind, config)
    kind = type(bind).__name__
    if isinstance(bind, Engine | Connection | Session | scoped_session | sessionmaker):
        raise TypeError(f"{kind} is not for asyncio: use the class of pgqrs, such as Producer")
    raise TypeError(
        f"cannot get an asyncio connection from {kind}: pass a Config, DSN, URL, AsyncEngine,"
        " async_sessionmaker, AsyncSession or AsyncConnection"
    )
