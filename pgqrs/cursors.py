"""The cursors of pgqrs's own connections: psycopg's, with a limit where the client keeps it."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncRawCursor, RawCursor

from pgqrs.deadline import watch

__all__ = ["async_cursor_for", "cursor_for"]


def cursor_for(limit: float | None) -> type[RawCursor[Any]]:
    """Give the class of cursors whose statements may take `limit` seconds; None: as they like."""
    if limit is None:
        return RawCursor
    seconds = limit

    class LimitedCursor(RawCursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            with watch.over(self.connection.pgconn, seconds):
                return super().execute(*args, **kwargs)

        def executemany(self, *args: Any, **kwargs: Any) -> None:
            with watch.over(self.connection.pgconn, seconds):
                super().executemany(*args, **kwargs)

    return LimitedCursor


def async_cursor_for(limit: float | None) -> type[AsyncRawCursor[Any]]:
    """Give the same for asyncio."""
    if limit is None:
        return AsyncRawCursor
    seconds = limit

    class LimitedCursor(AsyncRawCursor[Any]):
        async def execute(self, *args: Any, **kwargs: Any) -> Any:
            with watch.over(self.connection.pgconn, seconds):
                return await super().execute(*args, **kwargs)

        async def executemany(self, *args: Any, **kwargs: Any) -> None:
            with watch.over(self.connection.pgconn, seconds):
                await super().executemany(*args, **kwargs)

    return LimitedCursor
