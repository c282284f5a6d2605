"""What is known of the past: what clients wrote down and what is at rest, by message."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from history.records import BACK, LOST, OK, UNKNOWN, Fence, Lease, Operation, Row


class Past:
    """All that was written down, in the order in which judges ask for it.

    `leases` has by message and read count what a client was given, and when; `acts` by message what
    was tried under a fence, and what came of it; `faults` says in words what cannot have been.
    """

    def __init__(self, operations: list[Operation], rest: Iterable[Row], limit: int) -> None:
        self.limit = limit
        self.faults: list[str] = []
        self.operations = operations
        self.rest: dict[int, Row] = {}
        self.leases: dict[int, dict[int, tuple[Lease, Operation]]] = defaultdict(dict)
        self.acts: dict[int, list[tuple[Operation, Fence, str]]] = defaultdict(list)
        self.key_of: dict[int, str] = {}
        self.due: dict[int, int] = {}
        self.priority_of: dict[int, int] = {}
        self._collect(rest)

    def blame(self, fault: str, what: object) -> None:
        self.faults.append(f"{fault}: {what}")

    def ids(self) -> set[int]:
        """Give every message that somebody knows of."""
        return {*self.key_of, *self.leases, *self.acts, *self.rest}

    def count(self, each: int) -> int:
        """Give the highest read count of a message that was seen."""
        at_rest = self.rest[each].read_ct if each in self.rest else 0
        return max([at_rest, *self.leases.get(each, ())])

    def pairs(self, each: int) -> Iterator[tuple[Lease, tuple[Lease, Operation] | None]]:
        """Give each lease of a message with the next one that was seen."""
        leases = self.leases.get(each, {})
        counts = sorted(leases)
        for place, count in enumerate(counts, 1):
            yield leases[count][0], leases[counts[place]] if place < len(counts) else None

    def tried(self, lease: Lease) -> list[tuple[Operation, str]]:
        """Give what was tried under a lease."""
        return [(o, outcome) for o, f, outcome in self.acts[lease.id] if f == lease[:2]]

    def given_back(self, lease: Lease) -> list[int]:
        """Give when somebody sent that a lease is over, where that may have been heard."""
        return [o.sent for o, outcome in self.tried(lease) if o.kind in BACK and outcome != LOST]

    def until(self, lease: Lease, *, at_most: bool = False) -> int:
        """Give when a lease ran out by itself; `at_most`: if what may have extended it did."""
        heard = (OK, UNKNOWN) if at_most else (OK,)
        tried = self.tried(lease)
        longer = [o.until for o, outcome in tried if o.kind == "extend" and outcome in heard]
        return max([lease.until, *longer])

    def _collect(self, rest: Iterable[Row]) -> None:
        for row in rest:
            if row.id in self.rest:
                self.blame("in two places", (row, self.rest[row.id]))
            self.rest[row.id] = row
        for operation in self.operations:
            self.key_of.update(zip(operation.ids, operation.keys, strict=False))
            self.due.update(zip(operation.ids, operation.due, strict=False))
            self.priority_of.update(dict.fromkeys(operation.ids, operation.priority))
            for lease in operation.leases:
                if lease.read_ct in self.leases[lease.id]:
                    self.blame("leased twice under one count", lease)
                self.leases[lease.id][lease.read_ct] = (lease, operation)
            for fence, outcome in operation.each():
                self.acts[fence.id].append((operation, fence, outcome))
        # Of an enqueue without an answer the ids are not known, but what was asked for each key is.
        asked = {key: o.priority for o in self.operations for key in o.keys}
        for each, leases in self.leases.items():
            lease, _ = next(iter(leases.values()))
            self.priority_of.setdefault(each, asked.get(lease.key, 0))
