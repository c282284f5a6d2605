"""The cursors of pgqrs's own connections: psycopg's, with less to say, and a limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from psycopg import AsyncRawCursor, RawCursor
from sqlalchemy import Connection

from pgqrs.deadline import watch

__all__ = ["async_cursor_for", "cursor_for", "take_time"]

_NOTHING: Final = (None,) * 5


class Columns(Sequence[tuple[Any, ...]]):
    """What SQLAlchemy reads of columns, as PEP 249 has it; made when it is read.

    Of a statement that it knows it only asks whether there are any. psycopg's own columns know
    more, and making them costs 35 µs of a lease.
    """

    __slots__ = ("_result",)

    def __init__(self, result: Any) -> None:
        self._result = result

    def __len__(self) -> int:
        count: int = self._result.nfields
        return count

    def __getitem__(self, place: Any) -> Any:
        return self._all()[place]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._all())

    def _all(self) -> list[tuple[Any, ...]]:
        result = self._result
        return [
            (result.fname(place).decode(), result.ftype(place), *_NOTHING)
            for place in range(result.nfields)
        ]


def _described(result: Any) -> Columns | None:
    return Columns(result) if result is not None and result.nfields else None


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


def cursor_for(seconds: float) -> type[PlainCursor]:
    """Give the class of cursors whose statements may take so many seconds."""

    class LimitedCursor(PlainCursor):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            with watch.over(self.connection.pgconn, seconds):
                return super().execute(*args, **kwargs)

        def executemany(self, *args: Any, **kwargs: Any) -> None:
            with watch.over(self.connection.pgconn, seconds):
                super().executemany(*args, **kwargs)

    return LimitedCursor


def async_cursor_for(seconds: float) -> type[AsyncPlainCursor]:
    """Give the same for asyncio."""

    class LimitedCursor(AsyncPlainCursor):
        async def execute(self, *args: Any, **kwargs: Any) -> Any:
            with watch.over(self.connection.pgconn, seconds):
                return await super().execute(*args, **kwargs)

        async def executemany(self, *args: Any, **kwargs: Any) -> None:
            with watch.over(self.connection.pgconn, seconds):
                await super().executemany(*args, **kwargs)

    return LimitedCursor


def take_time(connection: Connection) -> None:
    """Let statements of a connection that nobody else gets take as long as they like.

    On a connection of a host's engine there is no limit of ours.
    """
    raw: Any = connection.connection.driver_connection
    kind = getattr(raw, "cursor_factory", None)
    if isinstance(kind, type) and issubclass(kind, PlainCursor):
        raw.cursor_factory = PlainCursor
