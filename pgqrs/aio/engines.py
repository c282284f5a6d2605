"""pgqrs's own asyncio engines: one for each configuration and running loop, counted."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any, Final

from psycopg import AsyncRawServerCursor
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pgqrs import engines
from pgqrs.config import Config
from pgqrs.forking import forget_in_child

__all__ = ["Engines", "acquire", "release"]


_Here = tuple[AsyncEngine, "weakref.WeakSet[Any]"]


class Engines:
    """The engines of one configuration, one for each event loop that used it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.users = 0
        self._by_loop: dict[asyncio.AbstractEventLoop, _Here] = {}
        forget_in_child(self)

    def here(self) -> AsyncEngine:
        """Give the engine for the running loop; opens no connection."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._drop_closed_loops()
            engine = create_async_engine(self.config.url, **engines.async_options_of(self.config))
            engines.prepare(engine.sync_engine, AsyncRawServerCursor)
            opened: weakref.WeakSet[Any] = weakref.WeakSet()
            event.listen(
                engine.sync_engine,
                "connect",
                lambda _, record: opened.add(record.driver_connection),
            )
            self._by_loop[loop] = (engine, opened)
        return self._by_loop[loop][0]

    async def dispose(self) -> None:
        """Close the connections of the running loop and of loops that are closed."""
        self._drop_closed_loops()
        mine = self._by_loop.pop(asyncio.get_running_loop(), None)
        if mine is not None:
            await mine[0].dispose()

    def after_fork_in_child(self) -> None:
        """Forget the connections, which are the parent's."""
        for engine, _ in self._by_loop.values():
            engine.sync_engine.dispose(close=False)
        self._by_loop = {}

    def _drop_closed_loops(self) -> None:
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            _, opened = self._by_loop.pop(loop)
            for connection in opened:  # nothing can be awaited there any more: end it below asyncio
                connection.pgconn.finish()


_all: Final[dict[Config, Engines]] = {}
_lock = threading.Lock()


def acquire(config: Config) -> Engines:
    """Give the engines of this configuration."""
    with _lock:
        mine = _all.setdefault(config, Engines(config))
        mine.users += 1
        return mine


async def release(mine: Engines) -> None:
    """Take a user off, and dispose the engines after the last one."""
    with _lock:
        mine.users -= 1
        last = mine.users <= 0
        if last and _all.get(mine.config) is mine:
            del _all[mine.config]
    if last:
        await mine.dispose()


class _Lock:
    def after_fork_in_child(self) -> None:
        global _lock
        _lock = threading.Lock()


_FORGET: Final = _Lock()
forget_in_child(_FORGET)
