"""Statements of messages on their way to the server, seen by a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Executable

from pgqrs import sending

Before = Callable[[Connection, Mapping[str, Any]], object]
After = Callable[[Connection, Mapping[str, Any], Any], object]


def tap(before: Before, after: After) -> None:
    """Call these around each, with its parameters and its rows, as long as the process lives.

    Events of SQLAlchemy would see them too, but with them they are sent in another way.
    """
    real = sending.fetch_all

    def fetch_all(
        connection: Connection, statement: Executable, parameters: Mapping[str, Any]
    ) -> Any:
        before(connection, parameters)
        rows = real(connection, statement, parameters)
        after(connection, parameters, rows)
        return rows

    for module in list(sys.modules.values()):
        if vars(module).get("fetch_all") is real:
            vars(module)["fetch_all"] = fetch_all
