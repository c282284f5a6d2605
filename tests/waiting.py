"""Waiting for a condition in the database, and threads that wait for one another there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import Engine, text

PATIENCE: Final = 20
BLOCKED: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
"""How many statements wait for a lock."""


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until a condition holds; gives what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still {found!r}"
        threading.Event().wait(0.005)
    return found


def ask(engine: Engine, query: str, **parameters: Any) -> Any:
    """Give the one value of a query, in a transaction of its own."""
    with engine.begin() as connection:
        return connection.scalar(text(query), parameters)


def wait_for(engine: Engine, query: str, wanted: Any = 1) -> None:
    """Wait until a query gives this value."""
    until(lambda: ask(engine, query) == wanted)


@contextlib.contextmanager
def locked(engine: Engine, table: str = "pgqrs_messages") -> Iterator[None]:
    """Have everybody else wait for a table."""
    with engine.begin() as connection:
        connection.execute(text(f"LOCK TABLE pgqrs.{table} IN ACCESS EXCLUSIVE MODE"))
        yield


@contextlib.contextmanager
def crowd() -> Iterator[Callable[..., list[threading.Thread]]]:
    """Give a function that starts threads; all have ended when the block is left."""
    running: list[threading.Thread] = []

    def start(count: int, target: Callable[[], Any]) -> list[threading.Thread]:
        fresh = [threading.Thread(target=target) for _ in range(count)]
        running.extend(fresh)
        for thread in fresh:
            thread.start()
        return fresh

    yield start
    for thread in running:
        thread.join(PATIENCE)
        assert not thread.is_alive()
