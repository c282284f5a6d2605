"""What is written down: by clients what they did, and from the tables what is left at rest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import text

OK, LOST, UNKNOWN = "ok", "lost", "unknown"
ENDINGS = ("archive", "delete")
BACK = ("release", "fail")
_ROW = "id, payload->>'key', read_ct, returned_ct, consumer_worker_id"
_ENDED = "(extract(epoch FROM archived_at) * 1000000)::bigint"
REST = text(
    f"SELECT {_ROW}, NULL AS status, NULL, priority, 0 FROM pgqrs.pgqrs_messages UNION ALL"
    f" SELECT {_ROW}, status, output, priority, {_ENDED} FROM pgqrs.pgqrs_archive"
)
"""Asks for all `Row`s there are."""


class Fence(NamedTuple):
    id: int
    read_ct: int


class Lease(NamedTuple):
    """A lease as the server gave it: of which message, in the name of whom, from when to when."""

    id: int
    read_ct: int
    key: str
    begun: int
    until: int


@dataclass
class Operation:
    """One call of one client; `outcomes` has one for each fence, in order.

    Of an enqueue `due` says when each message is, by the server's clock, `group` the singleton or
    ordering key of all; of a lease that gave nothing `vain` says when that was.
    """

    kind: str
    sent: int
    worker: int = 0
    keys: list[str] = field(default_factory=list)
    fences: list[Fence] = field(default_factory=list)
    size: int = 0
    answered: int | None = None
    ids: list[int] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    until: int = 0
    due: list[int] = field(default_factory=list)
    priority: int = 0
    group: str = ""
    vain: int = 0

    def each(self) -> Iterator[tuple[Fence, str]]:
        """Give each fence with what came of it."""
        yield from zip(self.fences, self.outcomes or [UNKNOWN] * len(self.fences), strict=True)


class Row(NamedTuple):
    """A message at rest; `status` is None in the queue, else `ended` is when it came there."""

    id: int
    key: str
    read_ct: int
    returned_ct: int
    worker: int | None
    status: str | None
    output: Any = None
    priority: int = 0
    ended: int = 0


class Deed(NamedTuple):
    """What a handler said: when, in which worker, and the lease that it was shown."""

    what: str
    at: int
    worker: int
    lease: Lease


class Log:
    """Appends to the file of one client; a line is either there or not."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def begin(self, kind: str, **what: Any) -> None:
        self._write({"kind": kind, "sent": time.monotonic_ns(), **what})

    def end(self, **what: Any) -> None:
        self._write({"answered": time.monotonic_ns(), **what})

    def note(self, what: str, worker: int, lease: Lease) -> None:
        """Write a deed; for any thread."""
        self._write({"what": what, "at": time.monotonic_ns(), "worker": worker, "lease": lease})

    def _write(self, record: dict[str, Any]) -> int:
        return os.write(self._file, json.dumps(record).encode() + b"\n")


def read(path: Path) -> list[Operation]:
    """Read what one client did: each answer belongs to the operation before it.

    A last line that was cut off by the client's death was not written.
    """
    operations: list[Operation] = []
    for line in path.read_text().split("\n")[:-1]:
        record = json.loads(line)
        if "kind" in record:
            operations.append(Operation(**record))
            operations[-1].fences = [Fence(*fence) for fence in operations[-1].fences]
        else:
            record["leases"] = [Lease(*lease) for lease in record.get("leases", ())]
            operations[-1].__dict__.update(record)
    return operations


def read_deeds(path: Path) -> list[Deed]:
    """Read what the handlers of one process did."""
    records = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [Deed(**record | {"lease": Lease(*record["lease"])}) for record in records]
