"""Whose connection, and whose transaction, an operation runs in.

An `EngineBinding` runs each operation by itself; a joined one (Session or Connection) runs it in
the caller's transaction and never commits, rolls back, closes, begins or configures anything
there.
"""

from __future__ import annotations

import time
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgqrs import engines, models
from pgqrs.call import PAUSES, Call
from pgqrs.config import Config
from pgqrs.errors import OutcomeUnknownError, UnavailableError
from pgqrs.joining import AT_ONCE, entered
from pgqrs.pool import HandyPool
from pgqrs.statement_cache import cache_of
from pgqrs.translation import translated

__all__ = [
    "Bind",
    "Binding",
    "ConnectionBinding",
    "EngineBinding",
    "Joined",
    "SessionBinding",
    "bound",
    "is_together",
    "joined",
]

T = TypeVar("T")

Joined = Session | scoped_session[Any] | Connection
"""What `within` takes: a transaction of the caller's."""

Bind = Config | str | URL | Engine | sessionmaker[Any] | Joined
"""What gives connections: also any object of pgqrs that has a binding."""

_ASYNC: Final = (
    "AsyncEngine",
    "AsyncConnection",
    "AsyncSession",
    "async_scoped_session",
    "async_sessionmaker",
)
_USE_AIO: Final = "use the class of pgqrs.aio, such as AsyncProducer"


class Binding:
    """Where calls run: see the subclasses."""

    config: Config
    is_joined: bool

    @property
    def schema(self) -> str:
        """The schema of the tables."""
        return self.config.schema_

    def run(self, call: Call[T]) -> T:
        """Run a call and give what it gives. Raises pgqrs's errors for the driver's."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what this binding owns."""


class EngineBinding(Binding):
    """Each call on a connection of its own: in autocommit, or in a transaction if it must be."""

    is_joined = False

    def __init__(self, engine: Engine, config: Config, *, owned: bool) -> None:
        self.engine = engine
        self.config = config
        self.owned = owned
        # The same pool, and nothing of the host's engine is changed.
        how = AT_ONCE if owned else {**AT_ONCE, "compiled_cache": cache_of(engine)}
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT", **how)
        # Our own engines are so from the start, and setting it anew costs 20 µs a call.
        self._autocommit = engine if owned else autocommit
        self._transactional = engine.execution_options(isolation_level="READ COMMITTED", **how)

    def run(self, call: Call[T]) -> T:
        for pause in PAUSES if call.repeats else ():
            try:
                return self._run_once(call)
            except (OutcomeUnknownError, UnavailableError):
                time.sleep(pause)
        return self._run_once(call)

    def apart(self) -> Engine:
        """Give another engine to the same server, for one connection outside the pool."""
        if self.owned:
            return engines.single(self.config)
        return create_engine(
            self.engine.url,
            pool=self.engine.pool.recreate(),
            isolation_level="AUTOCOMMIT",
            paramstyle=self.engine.dialect.paramstyle,  # its connections may be made for that
            execution_options={"compiled_cache": cache_of(self.engine)},
        )

    def waiting(self) -> Engine:
        """Give an engine as `apart`, for one that waits for notifications: always psycopg's."""
        if self.engine.driver == "psycopg":
            return self.apart()
        return engines.beside(self.engine.url)

    def run_apart(self, call: Call[T]) -> T:
        """Run a call while the caller may hold the only connection of the host's pool."""
        if self.owned:
            return self.run(call)
        engine = self.apart()
        try:
            return EngineBinding(engine, self.config, owned=False).run(call)
        finally:
            engine.dispose()

    def close(self) -> None:
        if self.owned:
            self.owned = False
            engines.release(self.config)

    def _run_once(self, call: Call[T]) -> T:
        with translated(self.schema, changes=call.changes):
            if call.together:
                with self._transactional.begin() as connection:
                    return call.step(connection)
            if self.owned and isinstance(self.engine.pool, HandyPool):
                return self._run_at_hand(call, self.engine.pool)
            with self._autocommit.connect() as connection:
                return call.step(connection)

    def _run_at_hand(self, call: Call[T], pool: HandyPool) -> T:
        connection = pool.take() or self._autocommit.connect()
        try:
            given = call.step(connection)
        except BaseException:
            pool.give_back(connection)
            raise
        pool.keep(connection)
        return given


class ConnectionBinding(Binding):
    """Within the transaction of a Connection of the caller's."""

    is_joined = True

    def __init__(self, connection: Connection, config: Config) -> None:
        self.connection = connection
        self.config = config

    def run(self, call: Call[T]) -> T:
        with translated(self.schema):
            return call.step(entered(self.connection))


class SessionBinding(Binding):
    """Within the transaction of a Session of the caller's."""

    is_joined = True

    def __init__(self, session: Session | scoped_session[Any], config: Config) -> None:
        self.session = session
        self.config = config

    def run(self, call: Call[T]) -> T:
        session = self.session() if isinstance(self.session, scoped_session) else self.session
        if session.autoflush and not session._flushing:  # noqa: SLF001 - there is no public way
            session.flush()
        with translated(self.schema):
            # Hosts that bind models to several engines bind ours too.
            connection = session.connection(bind_arguments={"mapper": models.Message})
            return call.step(entered(connection))


def is_together(connection: Connection) -> bool:
    """Say whether a call of several statements runs on a connection, in a transaction of ours."""
    level: str | None = connection.get_execution_options().get("isolation_level")
    return level == "READ COMMITTED"


def bound(bind: Any, config: Config | None = None) -> Binding:
    """Give the binding for `bind`; opens no connection.

    A DSN or URL reads the environment and files for everything but the database. Raises TypeError
    for what gives no connections, naming the asyncio class for asyncio objects.
    """
    if isinstance(getattr(bind, "binding", None), Binding):
        return _shared(bind.binding, config)
    if isinstance(bind, str | URL):
        bind = Config.load(
            bind if isinstance(bind, str) else bind.render_as_string(hide_password=False)
        )
    if isinstance(bind, Config):
        return EngineBinding(engines.acquire(bind), bind, owned=True)
    if isinstance(bind, sessionmaker):
        session = bind()
        if isinstance(session, Session):
            bind = session.get_bind(mapper=models.Message)
            session.close()
        else:  # made for asyncio, by class_=AsyncSession
            bind = session
    if isinstance(bind, Engine):
        if bind.dialect.is_async:
            raise TypeError(f"{bind!r} is for asyncio: {_USE_AIO}")
        return EngineBinding(bind, config or Config(), owned=False)
    return joined(bind, config or Config())


def joined(bind: Any, config: Config) -> Binding:
    """Give the binding within the transaction of a Session, scoped_session or Connection."""
    if isinstance(bind, Connection):
        return ConnectionBinding(bind, config)
    if isinstance(bind, Session | scoped_session):
        return SessionBinding(bind, config)
    kind = type(bind).__name__
    if any(base.__name__ in _ASYNC for base in type(bind).__mro__):
        raise TypeError(f"{kind} is for asyncio: {_USE_AIO}")
    raise TypeError(
        f"cannot get a connection from {kind}: pass a Config, DSN, URL, Engine, sessionmaker,"
        " Session or Connection"
    )


def _shared(binding: Binding, config: Config | None) -> Binding:
    if isinstance(binding, EngineBinding):
        if binding.owned:  # one more user of our own engine
            return bound(binding.config)
        return EngineBinding(binding.engine, config or binding.config, owned=False)
    return binding
