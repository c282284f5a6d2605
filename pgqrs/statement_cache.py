"""What SQLAlchemy compiled, found by the statement itself before it is found by its shape.

SQLAlchemy makes a key of a statement once and hashes it at each call, which walks all of the
statement: 75 µs of a lease, a fifth of the client's time. Statements of pgqrs are made once for
each schema, so their keys are the same objects at each call.

For SQLAlchemy each engine compiles for itself, and a run, which has one of its own, would begin
with 16 ms of that. Those of pgqrs differ in nothing that a statement's text depends on.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from functools import cache
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.pool import Pool

__all__ = ["StatementCache", "cache_of", "shared"]

_MOST: Final = 500
_hosts: Final[MutableMapping[Pool, StatementCache]] = weakref.WeakKeyDictionary()


class StatementCache(MutableMapping[Any, Any]):
    """A `compiled_cache` for engines whose statements are the same objects again and again.

    Others are found as without it, by their shape. Engines that share one have the same options:
    of their dialects only the kind counts. Where there is no room left it begins anew.
    """

    def __init__(self) -> None:
        self._by_shape: dict[Any, Any] = {}
        self._by_identity: dict[Any, tuple[Any, Any]] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        """Give what was compiled for a key: (dialect, key of the statement, and more)."""
        short = _short(key)
        known = self._by_identity.get(short)
        if known is not None:
            return known[1]
        compiled = self._by_shape.get(_whole(key), default)
        if compiled is not default:
            if len(self._by_identity) >= _MOST:
                self._by_identity.clear()
            self._by_identity[short] = (key, compiled)  # which keeps its identity its own
        return compiled

    def __getitem__(self, key: Any) -> Any:
        return self._by_shape[_whole(key)]

    def __setitem__(self, key: Any, compiled: Any) -> None:
        if len(self._by_shape) >= _MOST:
            self._by_shape.clear()
        self._by_shape[_whole(key)] = compiled

    def __delitem__(self, key: Any) -> None:
        self._by_identity.clear()
        del self._by_shape[_whole(key)]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._by_shape)

    def __len__(self) -> int:
        return len(self._by_shape)


@cache
def shared(schema: str) -> StatementCache:  # noqa: ARG001 - one for each
    """Give the one for all engines that pgqrs makes for a schema, kept like its statements."""
    return StatementCache()


def cache_of(engine: Engine) -> StatementCache:
    """Give the one for what pgqrs sends on a host's engine, which keeps its own for its own."""
    # What was compiled refers to the engine's dialect, so that would never go; the pool does.
    found = _hosts.get(engine.pool)
    return found if found is not None else _hosts.setdefault(engine.pool, StatementCache())


def _short(key: Any) -> tuple[Any, ...]:
    dialect, statement, *more = key
    return (type(dialect), id(statement), *more)


def _whole(key: Any) -> tuple[Any, ...]:
    dialect, *more = key
    return (type(dialect), *more)
