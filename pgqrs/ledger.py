"""What one consumer object has leased and not yet acknowledged: the fence for acting by id."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from pgqrs.errors import LeaseLostError
from pgqrs.forking import forget_in_child
from pgqrs.operations.acknowledge import Fence, fence_of
from pgqrs.types import QueueMessage

__all__ = ["LIMIT", "Ledger"]

LIMIT: Final = 100_000
"""How many leases a ledger remembers; the oldest are forgotten first."""


class Ledger:
    """Message ids with the read counts they were leased under, oldest first."""

    def __init__(self) -> None:
        self._leases: dict[int, tuple[int, float]] = {}  # read count, until when
        self._unanswered: set[Fence] = set()
        forget_in_child(self)

    def add(self, messages: Sequence[QueueMessage]) -> None:
        """Remember what was leased together, and so for the same time."""
        if not messages:
            return
        first = messages[0]
        length = first.vt - (first.dequeued_at or first.vt)
        until = time.monotonic() + length.total_seconds()
        leased = {message.id: (message.read_ct, until) for message in messages}
        for again in leased.keys() & self._leases.keys():
            self._leases.pop(again, None)
        self._leases.update(leased)
        while len(self._leases) > LIMIT:
            self._leases.pop(next(iter(self._leases)), None)

    def renew(self, message: QueueMessage) -> None:
        """Note the new end of a lease, if it is one of these."""
        if self._has(fence_of(message)):
            self.add([message])

    def fence(self, message_id: int) -> Fence:
        """Give the fence of a lease. Raises LeaseLostError for an id that is not held here."""
        found = self._leases.get(message_id)
        if found is None:
            raise LeaseLostError(message_id, "this consumer did not lease it, or is done with it")
        return Fence(message_id, found[0])

    def drop(self, fences: Iterable[Fence]) -> None:
        """Forget leases that were acknowledged, given back or lost, but no later ones."""
        for fence in fences:
            if self._has(fence):
                self._leases.pop(fence.message_id, None)

    def fences(self) -> list[Fence]:
        """Give all that is remembered."""
        return [Fence(number, read_ct) for number, (read_ct, _) in list(self._leases.items())]

    def sending(self, fences: Iterable[Fence]) -> set[Fence]:
        """Note that these are being acknowledged; give those that were before, without a reply."""
        again = self._unanswered.intersection(fences)
        self._unanswered.update(fences)
        return again

    def answered(self, fences: Iterable[Fence]) -> None:
        """Note that the reply to their acknowledgement came."""
        self._unanswered.difference_update(fences)

    def holds_any(self) -> bool:
        """Say whether a lease that has not run out is held."""
        now = time.monotonic()
        return any(until > now for _, until in list(self._leases.values()))

    def after_fork_in_child(self) -> None:
        """Forget the leases, which are the parent's."""
        self._leases = {}
        self._unanswered = set()

    def _has(self, fence: Fence) -> bool:
        message_id, read_ct = fence
        return self._leases.get(message_id, (None,))[0] == read_ct
