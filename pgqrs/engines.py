"""pgqrs's own engines: one for each configuration, counted, disposed with its last user.

Not for the host's engines, which are used as they are and never disposed.
"""

from __future__ import annotations

import math
import threading
from typing import Any, Final

from psycopg import RawServerCursor
from sqlalchemy import URL, Engine, create_engine, event

from pgqrs.config import Config
from pgqrs.cursors import async_cursor_for, cursor_for
from pgqrs.deadline import GRACE
from pgqrs.forking import forget_in_child
from pgqrs.pool import HandyPool, check_at_checkout
from pgqrs.sending import OURS
from pgqrs.statement_cache import shared

__all__ = ["acquire", "async_options_of", "beside", "options_of", "prepare", "release", "single"]

# A connection that waits hears nothing of a route that was lost, unless it asks.
_KEEPALIVES: Final = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# One that sends hears nothing either, and would try for a quarter of an hour.
_UNHEARD: Final = "tcp_user_timeout"

# Options of asyncpg's in a URL, by what psycopg calls them, if it knows them.
_OF_ASYNCPG: Final = {
    "ssl": "sslmode",
    "timeout": "connect_timeout",
    "async_fallback": "",
    "command_timeout": "",
    "direct_tls": "",
    "max_cacheable_statement_size": "",
    "max_cached_statement_lifetime": "",
    "prepared_statement_cache_size": "",
    "prepared_statement_name_func": "",
    "statement_cache_size": "",
}

_counts: Final[dict[Config, tuple[Engine, int]]] = {}
_lock = threading.Lock()


def acquire(config: Config) -> Engine:
    """Give the engine for this configuration; opens no connection."""
    with _lock:
        engine, users = _counts.get(config) or (_made(config), 0)
        _counts[config] = (engine, users + 1)
        return engine


def release(config: Config) -> None:
    """Take a user off the engine, and dispose it after the last one."""
    with _lock:
        engine, users = _counts.get(config, (None, 0))
        if engine is None:
            return
        if users > 1:
            _counts[config] = (engine, users - 1)
            return
        del _counts[config]
    engine.dispose()


def single(config: Config) -> Engine:
    """Give a new engine with one connection, which the caller disposes."""
    options: dict[str, Any] = {**options_of(config), "pool_size": 1, "max_overflow": 0}
    if not config.pooler:  # the same few statements all the time, whose plans suit any values
        options["connect_args"]["options"] += " -c plan_cache_mode=force_generic_plan"
    engine = create_engine(config.url, **options)
    prepare(engine, RawServerCursor)
    return engine


def beside(url: URL) -> Engine:
    """Give an engine of psycopg with one connection, to where a host's engine of any driver leads.

    What only asyncpg knows of in a URL is left out, and its `ssl` and `timeout` are translated.
    """
    query = {_OF_ASYNCPG.get(name, name): value for name, value in url.query.items()}
    query.pop("", None)
    url = url.set(drivername="postgresql+psycopg", query=query)
    return create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=0)


def options_of(config: Config) -> dict[str, Any]:
    """Give what `create_engine` is called with.

    A single operation is one statement, so connections are in autocommit: one round trip, and
    nothing to roll back when a connection is given back.
    Placeholders are PostgreSQL's own: others are looked for anew at each call in a statement of
    more than 4,096 characters, which costs more than sending it.
    """
    return _options_of(config, cursor_for(_limit(config)))


def async_options_of(config: Config) -> dict[str, Any]:
    """Give what `create_async_engine` is called with; otherwise as `options_of`."""
    return _options_of(config, async_cursor_for(_limit(config)))


def _limit(config: Config) -> float:
    """Give the limit on statements that the client keeps, where the server has not done so."""
    return config.query_timeout_seconds + (0.0 if config.pooler else GRACE)


def _options_of(config: Config, cursor: type) -> dict[str, Any]:
    # One is for who waits or runs, one for heartbeats or, while running, maintenance.
    pooled = config.max_connections - 2
    size = min(config.connection_pool_size, pooled)
    return {
        "isolation_level": "AUTOCOMMIT",
        "paramstyle": "numeric_dollar",
        "hide_parameters": True,
        "skip_autocommit_rollback": True,
        "execution_options": {"compiled_cache": shared(config.schema_), OURS: True},
        "pool_size": size,
        "max_overflow": pooled - size,
        "pool_timeout": config.connection_timeout_seconds,
        "pool_use_lifo": True,
        "connect_args": {"cursor_factory": cursor, **_connect_args(config)},
    }


def prepare(engine: Engine, server_cursor: type) -> None:
    """Have connections that the server closed replaced when they are taken, and streams work."""
    check_at_checkout(engine)

    @event.listens_for(engine, "connect")
    def equip(_dbapi: Any, record: Any) -> None:
        record.driver_connection.server_cursor_factory = server_cursor


def _made(config: Config) -> Engine:
    engine = create_engine(config.url, poolclass=HandyPool, **options_of(config))
    prepare(engine, RawServerCursor)
    return engine


def _connect_args(config: Config) -> dict[str, Any]:
    span = math.ceil(config.query_timeout_seconds * 1000)
    patience = {**_KEEPALIVES, _UNHEARD: span}
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, math.ceil(config.connection_timeout_seconds)),
        "fallback_application_name": "pgqrs",
        **{name: value for name, value in patience.items() if name not in config.url.query},
    }
    if config.pooler:
        # A pooler gives each transaction another server connection: nothing can be kept there.
        arguments["prepare_threshold"] = None
    else:
        given = config.url.query.get("options", "")
        timeout = f"-c statement_timeout={span}"
        arguments["options"] = f"{given} {timeout}".strip()
    return arguments


class _Engines:
    def after_fork_in_child(self) -> None:
        global _lock
        _lock = threading.Lock()
        for engine, _ in _counts.values():
            engine.dispose(close=False)


_FORGET: Final = _Engines()
forget_in_child(_FORGET)
