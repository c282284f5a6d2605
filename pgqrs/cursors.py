"""The cursors of pgqrs's own connections: psycopg's, with less to say and, if asked, a limit."""

from __future__ import annotations

from typing import Any, Final

from psycopg import AsyncRawCursor, RawCursor

from pgqrs.deadline import watch

__all__ = ["async_cursor_for", "cursor_for"]

_NOTHING: Final = (None,) * 5


def _described(result: Any) -> list[tuple[Any, ...]] | None:
    # What SQLAlchemy reads of a column, as PEP 249 has it. psycopg's own columns know more, and
    # making them costs 35 µs of a lease.
    if result is None or not result.nfields:
        return None
    return [
        (result.fname(place).decode(), result.ftype(place), *_NOTHING)
        for place in range(result.nfields)
    ]


class PlainCursor(RawCursor[Any]):
    """A cursor that describes its columns by name and type alone."""

    @property
    def description(self) -> Any:
        """Give (name, type, and five that are None) for each column; None where there are none."""
        return _described(self.pgresult)


class AsyncPlainCursor(AsyncRawCursor[Any]):
    """The same for asyncio."""

    @property
    def description(self) -> Any:
        """Give the same."""
        return _described(self.pgresult)


def cursor_for(limit: float | None) -> type[PlainCursor]:
    """Give the class of cursors whose statements may take `limit` seconds; None: as they like."""
    if limit is None:
        return PlainCursor
    seconds = limit

    class LimitedCursor(PlainCursor):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            with watch.over(self.connection.pgconn, seconds):
                return super().execute(*args, **kwargs)

        def executemany(self, *args: Any, **kwargs: Any) -> None:
            with watch.over(self.connection.pgconn, seconds):
                super().executemany(*args, **kwargs)

    return LimitedCursor


def async_cursor_for(limit: float | None) -> type[AsyncPlainCursor]:
    """Give the same for asyncio."""
    if limit is None:
        return AsyncPlainCursor
    seconds = limit

    class LimitedCursor(AsyncPlainCursor):
        async def execute(self, *args: Any, **kwargs: Any) -> Any:
            with watch.over(self.connection.pgconn, seconds):
                return await super().execute(*args, **kwargs)

        async def executemany(self, *args: Any, **kwargs: Any) -> None:
            with watch.over(self.connection.pgconn, seconds):
                await super().executemany(*args, **kwargs)

    return LimitedCursor
