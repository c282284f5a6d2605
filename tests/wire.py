"""Count what goes over an engine's connections, as libpq itself traces it (on Linux)."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg.pq import Trace
from sqlalchemy import Engine, event

# A statement of several lines goes on at the beginning of a line.
_MESSAGE = re.compile(r"^([FB])\t\d+\t(\w+)[\t ]*(.*)$", re.MULTILINE)


@dataclass
class Traffic:
    """The protocol's messages: who sent one (F: us, B: the server), and of what kind."""

    messages: Counter[tuple[str, str]] = field(default_factory=Counter)
    prepared: int = 0
    lines: list[str] = field(default_factory=list)

    @property
    def statements(self) -> int:
        """What was executed: BEGIN and COMMIT would count like any other."""
        return self.messages["F", "Execute"] + self.messages["F", "Query"]

    @property
    def round_trips(self) -> int:
        """How often the server had to answer before we went on, but for preparing once."""
        return self.messages["B", "ReadyForQuery"] - self.prepared

    def read(self, trace: str) -> None:
        for sender, kind, rest in _MESSAGE.findall(trace):
            self.messages[sender, kind] += 1
            self.lines.append(f"{sender} {kind} {rest[:120]}")
            self.prepared += kind == "Parse" and not rest.startswith('""')


class Wire:
    """The connections that an engine opens from now on."""

    def __init__(self, engine: Engine) -> None:
        self._connections: list[Any] = []
        event.listen(engine, "connect", lambda driver, _: self._connections.append(driver))

    @contextmanager
    def watched(self) -> Iterator[Traffic]:
        """Give the traffic of the block, complete at its end."""
        traffic = Traffic()
        with tempfile.TemporaryFile("w+") as trace:
            open_ones = [driver.pgconn for driver in self._connections if not driver.closed]
            for connection in open_ones:
                connection.trace(trace.fileno())
                connection.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
            try:
                yield traffic
            finally:
                for connection in open_ones:
                    connection.untrace()
                trace.seek(0)
                traffic.read(trace.read())
