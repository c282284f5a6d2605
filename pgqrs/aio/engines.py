"""pgqrs's own asyncio engines: one for each configuration and running loop, counted."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import MutableMapping
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pgqrs import engines
from pgqrs.config import Config
from pgqrs.forking import forget_in_child

__all__ = ["Engines", "acquire", "release"]


class Engines:
    """The engines of one configuration, one for each event loop that used it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.users = 0
        self._by_loop: MutableMapping[asyncio.AbstractEventLoop, AsyncEngine]
        self._by_loop = weakref.WeakKeyDictionary()
        forget_in_child(self)

    def here(self) -> AsyncEngine:
        """Give the engine for the running loop; opens no connection."""
        loop = asyncio.get_running_loop()
        engine = self._by_loop.get(loop)
        if engine is None:
            engine = create_async_engine(self.config.url, **engines.options_of(self.config))
            engines.watch_for_closed(engine.sync_engine)
            self._by_loop[loop] = engine
        return engine

    async def dispose(self) -> None:
        """Close the connections of the running loop, and drop those of loops that are gone."""
        running = asyncio.get_running_loop()
        for loop, engine in list(self._by_loop.items()):
            if loop is running:
                await engine.dispose()
            else:
                engine.sync_engine.dispose(close=False)
        self._by_loop.clear()

    def after_fork_in_child(self) -> None:
        """Forget the connections, which are the parent's."""
        for engine in self._by_loop.values():
            engine.sync_engine.dispose(close=False)
        self._by_loop = weakref.WeakKeyDictionary()


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
