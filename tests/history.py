"""What clients say that they did, and a judge of whether a queue can have answered so.

Each client writes a line before it sends an operation and one when the answer is there. Where it
was killed in between the outcome is unknown: then the operation may have happened, once, or not.
Instants of the server are microseconds; those of clients (`sent`, `answered`) are nanoseconds of
the machine's one monotonic clock.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import text

OK, LOST, UNKNOWN = "ok", "lost", "unknown"
ENDINGS = ("archive", "delete")
BACK = ("release", "fail")
REST = text(
    "SELECT id, payload->>'key', read_ct, returned_ct, consumer_worker_id, NULL AS status, NULL"
    " FROM pgqrs.pgqrs_messages UNION ALL"
    " SELECT id, payload->>'key', read_ct, returned_ct, consumer_worker_id, status, output"
    " FROM pgqrs.pgqrs_archive"
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
    """One call of one client; `outcomes` has one for each fence, in order."""

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

    def each(self) -> Iterator[tuple[Fence, str]]:
        """Give each fence with what came of it."""
        yield from zip(self.fences, self.outcomes or [UNKNOWN] * len(self.fences), strict=True)


class Row(NamedTuple):
    """A message at rest; `status` is None in the queue."""

    id: int
    key: str
    read_ct: int
    returned_ct: int
    worker: int | None
    status: str | None
    output: Any = None


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


class Judge:
    """Looks for what cannot have been; `faults` says in words what it found.

    `deeds` are what handlers said, where leases were taken for handlers.
    """

    def __init__(
        self,
        operations: list[Operation],
        rest: Iterable[Row],
        limit: int,
        deeds: list[Deed] | None = None,
    ) -> None:
        self.limit = limit
        self.faults: list[str] = []
        self.operations = operations
        self.rest: dict[int, Row] = {}
        self.leases: dict[int, dict[int, tuple[Lease, Operation]]] = defaultdict(dict)
        self.acts: dict[int, list[tuple[Operation, Fence, str]]] = defaultdict(list)
        self.key_of: dict[int, str] = {}
        self._collect(rest)
        for judge in (self._keys, self._gaps):
            judge()
        for each in {*self.key_of, *self.leases, *self.acts, *self.rest}:
            self._leases(each)
            self._acts(each)
            self._endings(each)
            self._at_rest(each)
        if deeds is not None:
            self._deeds(deeds)

    def blame(self, fault: str, what: object) -> None:
        self.faults.append(f"{fault}: {what}")

    def _collect(self, rest: Iterable[Row]) -> None:
        for row in rest:
            if row.id in self.rest:
                self.blame("in two places", (row, self.rest[row.id]))
            self.rest[row.id] = row
        for operation in self.operations:
            self.key_of.update(zip(operation.ids, operation.keys, strict=False))
            for lease in operation.leases:
                if lease.read_ct in self.leases[lease.id]:
                    self.blame("leased twice under one count", lease)
                self.leases[lease.id][lease.read_ct] = (lease, operation)
            for fence, outcome in operation.each():
                self.acts[fence.id].append((operation, fence, outcome))

    def _keys(self) -> None:
        """What was enqueued is there once; what nobody enqueued is not."""
        sent = Counter(key for operation in self.operations for key in operation.keys)
        ids: dict[str, int] = {}
        for each, key in [*self.key_of.items(), *((r.id, r.key) for r in self.rest.values())]:
            if ids.setdefault(key, each) != each:
                self.blame("one message twice", (key, each, ids[key]))
            if sent[key] != 1:
                self.blame("a message from nowhere", (key, each))
            if self.key_of.get(each, key) != key:
                self.blame("another message's payload", (key, each))
        for leases in self.leases.values():
            for lease, _ in leases.values():
                if ids.setdefault(lease.key, lease.id) != lease.id or not sent[lease.key]:
                    self.blame("another message's payload", lease)

    def _gaps(self) -> None:
        """A count nobody saw belongs to a lease whose taker was killed before it could say so."""
        unknown = sum(o.size for o in self.operations if o.kind == "lease" and o.answered is None)
        unseen = sum(self._count(each) - len(self.leases[each]) for each in [*self.leases])
        unseen += sum(row.read_ct for each, row in self.rest.items() if each not in self.leases)
        if unseen > unknown:
            self.blame("leases that nobody took", (unseen, unknown))

    def _count(self, each: int) -> int:
        at_rest = self.rest[each].read_ct if each in self.rest else 0
        return max([at_rest, *self.leases.get(each, ())])

    def _leases(self, each: int) -> None:
        """One lease at a time: the next begins when the last has run out or was given back."""
        leases = self.leases.get(each, {})
        for count in sorted(leases):
            (lease, _), following = leases[count], leases.get(count + 1)
            later = [leases[c][0] for c in leases if c > count]
            if any(other.begun <= lease.begun for other in later):
                self.blame("read_ct did not rise with time", (lease, later))
            if following is None:
                continue
            acts = [(o, outcome) for o, f, outcome in self.acts[each] if f == lease[:2]]
            given_back = [o.sent for o, outcome in acts if o.kind in BACK and outcome != LOST]
            longer = [o.until for o, outcome in acts if o.kind == "extend" and outcome == OK]
            until = max([lease.until, *longer])
            if following[0].begun >= until:  # it had run out, whatever was said of it since
                continue
            if not given_back:
                self.blame("leases overlap", (lease, following[0]))
            elif (following[1].answered or 0) < min(given_back):
                self.blame("leased before it was given back", (lease, following[0]))

    def _acts(self, each: int) -> None:
        """Who acts holds the lease; who is told that it was lost, had lost it."""
        ended = [o.answered for o, _, out in self.acts[each] if o.kind in ENDINGS and out == OK]
        for operation, fence, outcome in self.acts[each]:
            if fence.read_ct not in self.leases[each]:
                self.blame("acted on without a lease", (operation.kind, fence))
            if outcome == OK and any(answer and operation.sent > answer for answer in ended):
                self.blame("acted on after its end", (operation.kind, fence))
            if outcome == LOST and not self._has_lost(each, operation, fence):
                self.blame("told lost without reason", (operation.kind, fence))

    def _has_lost(self, each: int, operation: Operation, fence: Fence) -> bool:
        row = self.rest.get(each)
        if self._count(each) > fence.read_ct or (row is not None and row.status == "dead"):
            return True
        lease = self.leases[each].get(fence.read_ct)
        ran_out = lease is not None and operation.kind == "extend"
        others = [o for o, f, out in self.acts[each] if f == fence and out != LOST]
        return ran_out or any(o.kind in (*ENDINGS, *BACK) for o in others)

    def _endings(self, each: int) -> None:
        """One terminal transition, and under the last lease there was."""
        done = [(o, f) for o, f, out in self.acts[each] if o.kind in ENDINGS and out == OK]
        row = self.rest.get(each)
        dead = row is not None and row.status == "dead"
        if len(done) + dead > 1:
            self.blame("ended twice", (each, [(o.kind, f) for o, f in done], row))
        for operation, fence in done:
            if fence.read_ct != self._count(each):
                self.blame("ended under a lease that was over", (operation.kind, fence))
            if operation.kind == "delete" and row is not None:
                self.blame("deleted and still there", row)
            same = (fence.read_ct, operation.worker, "completed")
            if operation.kind == "archive" and (
                row is None or (row.read_ct, row.worker, row.status) != same
            ):
                self.blame("not at rest as it was archived", (fence, row))

    def _at_rest(self, each: int) -> None:
        """What is at rest, or is not, is what clients did or may have done."""
        row, acts = self.rest.get(each), self.acts[each]
        may = {(o.kind, f.read_ct, o.worker) for o, f, out in acts if out != LOST}
        if row is None:
            if not any(kind == "delete" for kind, _, _ in may):
                self.blame("a message was lost", each)
            return
        if row.read_ct < self._count(each):
            self.blame("a lease that left no trace", (row, self._count(each)))
        if row.status == "completed" and ("archive", row.read_ct, row.worker) not in may:
            self.blame("archived by nobody", row)
        attempts = row.read_ct - row.returned_ct
        if attempts > self.limit or (row.status == "dead" and attempts < self.limit):
            self.blame("dead and the limit do not agree", row)
        returned = [out for o, f, out in acts if o.kind == "release"]
        if not returned.count(OK) <= row.returned_ct <= len(returned) - returned.count(LOST):
            self.blame("given back more or less often than done", row)

    def _deeds(self, deeds: list[Deed]) -> None:
        """A handler has each lease once, while its message is there; what it returned is kept."""
        starts: dict[Fence, Deed] = {}
        returns: dict[Fence, Deed] = {}
        for deed in deeds:
            fence, those = Fence(*deed.lease[:2]), starts if deed.what == "start" else returns
            if fence in those:
                self.blame("handled twice under one lease", (deed, those[fence]))
            those[fence] = deed
        for fence, deed in starts.items():
            lease, _ = self.leases[fence.id].get(fence.read_ct, (None, None))
            if lease != deed.lease:
                self.blame("handled without a lease", (deed, lease))
            # Who slept past its lease may begin under it when another's is over, and is refused.
            acts = [o for o, f, out in self.acts[fence.id] if out == OK and f <= fence]
            ended = [o.answered for o in acts if o.kind in ENDINGS and o.answered]
            if any(answered < deed.at for answered in ended):
                self.blame("handled after its end", deed)
        for each, row in self.rest.items():
            returned = returns.get(Fence(each, row.read_ct))
            if row.status != "completed":
                continue
            acts = [o for o, f, _ in self.acts[each] if f == (each, row.read_ct)]
            ends = [o.sent for o in acts if o.kind in ENDINGS]
            if returned is None or any(sent < returned.at for sent in ends):
                self.blame("completed before it was done", row)
            if row.output != {"id": each, "read_ct": row.read_ct}:
                self.blame("another handler's output", row)


def faults(
    operations: list[Operation],
    rest: Iterable[Row],
    limit: int,
    deeds: list[Deed] | None = None,
) -> list[str]:
    """Say in words what cannot have been, if every promise was kept."""
    return Judge(operations, rest, limit, deeds).faults
