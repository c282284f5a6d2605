"""What pgqrs promises about one queue, as plain Python: no SQL, no transactions, no clock.

Nothing is due by itself: time is moved by `come_due`, which also says in which order. It is told
what a lease gave and says whether it may; where the promise leaves room, so does the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

READY, DELAYED, LEASED = range(3)
REACH = 100
"""How many late messages a lease looks at behind a ready line that could fill it alone."""


class Fence(NamedTuple):
    id: int
    read_ct: int


@dataclass
class Message:
    """One message in the queue; `came` is when its time came, as a number, or None."""

    id: int
    priority: int
    limit: int
    state: int = READY
    came: int | None = None
    read_ct: int = 0
    returned_ct: int = 0
    holder: int | None = None

    @property
    def urgency(self) -> tuple[int, int]:
        return (-self.priority, self.id)

    @property
    def is_spent(self) -> bool:
        return self.read_ct - self.returned_ct >= self.limit


@dataclass
class Holder:
    """One consumer object: its worker row, and the read counts it leased ids under."""

    worker: int
    ledger: dict[int, int] = field(default_factory=dict)


@dataclass
class Queue:
    """The promise: give it each operation before or after the real one, and compare."""

    paused: bool = False
    waiting: dict[int, Message] = field(default_factory=dict)
    archived: dict[int, tuple[str, int, int | None]] = field(default_factory=dict)
    """Status, read count and last holder of what is finished, by id."""
    gone: set[int] = field(default_factory=set)
    _instant: int = 0

    def enqueue(self, ids: Iterable[int], priority: int, limit: int, *, delayed: bool) -> None:
        for new in ids:
            assert new > max([0, *self.waiting, *self.archived, *self.gone]), "ids only rise"
            self.waiting[new] = Message(new, priority, limit, DELAYED if delayed else READY)

    def come_due(self, ids: Iterable[int]) -> None:
        """Let delays end and leases run out, in this order."""
        for each in ids:
            self._instant += 1
            self.waiting[each].came = self._instant

    def to_come(self) -> list[int]:
        """Give what is delayed or leased, and whose time has not come."""
        late = (m for m in self.waiting.values() if m.state != READY and m.came is None)
        return [message.id for message in late]

    def best(self, size: int) -> list[int]:
        """Give the ids that a lease of `size` must give, in order."""
        pool = sorted([*self._ready(size), *self._late(size)], key=lambda m: m.urgency)
        return [] if self.paused else [message.id for message in pool[:size]]

    def lease(self, holder: Holder, size: int) -> list[Fence]:
        """Lease the best; what was looked at and passed over waits in the ready line."""
        chosen = self.best(size)
        for message in [] if self.paused else self._late(size):
            message.state = READY
        for each in chosen:
            message = self.waiting[each]
            message.state, message.came, message.holder = LEASED, None, holder.worker
            message.read_ct += 1
            holder.ledger[each] = message.read_ct
        return [Fence(each, self.waiting[each].read_ct) for each in chosen]

    def bury(self, found: set[int], leased: int, size: int) -> None:
        """Take what a lease found dead: only exhausted ones, and all if it was not filled."""
        spent = {m.id for m in self.waiting.values() if m.state == LEASED and m.came and m.is_spent}
        assert found <= spent, "only what is exhausted dies"
        assert self.paused is False or not found, "a paused queue leaves all as it is"
        if not self.paused and leased < size and len(spent) <= REACH:
            assert found == spent, "what is exhausted dies by the ordinary lease"
        for each in found:
            self._finish(each, "dead")

    def fence(self, holder: Holder, held: Fence, *, by_id: bool) -> Fence | None:
        """Give what is acted on: by id what this object leased last, or nothing."""
        if not by_id:
            return held
        read_ct = holder.ledger.get(held.id)
        return None if read_ct is None else Fence(held.id, read_ct)

    def finish(self, holder: Holder, fence: Fence | None, status: str | None) -> bool:
        """Archive under `status`, or delete; says whether the lease was held."""
        return self._answer(holder, fence, lambda: self._finish(fence.id, status))

    def release(self, holder: Holder, fence: Fence | None, *, delayed: bool) -> bool:
        """Give a lease back, which costs no attempt; says whether it was held."""

        def give_back() -> None:
            message = self.waiting[fence.id]
            message.state, message.came = (DELAYED if delayed else READY), None
            message.holder = None
            message.returned_ct += 1

        return self._answer(holder, fence, give_back)

    def extend(self, holder: Holder, fence: Fence | None) -> bool:
        """Extend a lease that has not run out; says whether it was held.

        It stays with the object that leased it, whichever extends it.
        """
        return self._holds(holder, fence) and self.waiting[fence.id].came is None

    def purge(self) -> int:
        count = len(self.waiting)
        self.gone |= set(self.waiting)
        self.waiting.clear()
        return count

    def _ready(self, size: int) -> list[Message]:
        line = [m for m in self.waiting.values() if m.state == READY]
        return sorted(line, key=lambda m: m.urgency)[:size]

    def _late(self, size: int) -> list[Message]:
        reach = size if len(self._ready(size)) < size else max(size, REACH)
        due = sorted((m for m in self.waiting.values() if m.came), key=lambda m: m.came)
        delayed = [m for m in due if m.state == DELAYED]
        expired = [m for m in due if m.state == LEASED and not m.is_spent]
        return [*delayed[:reach], *expired[:reach]]

    def _holds(self, holder: Holder, fence: Fence | None) -> bool:
        message = None if fence is None else self.waiting.get(fence.id)
        return message is not None and (message.read_ct, message.holder) == (
            fence.read_ct,
            holder.worker,
        )

    def _answer(self, holder: Holder, fence: Fence | None, change) -> bool:
        held = self._holds(holder, fence)
        if held:
            change()
        if fence is not None and holder.ledger.get(fence.id) == fence.read_ct:
            del holder.ledger[fence.id]
        return held

    def _finish(self, each: int, status: str | None) -> None:
        message = self.waiting.pop(each)
        assert each not in self.archived, "a message ends once"
        if status is None:
            self.gone.add(each)
        else:
            self.archived[each] = (status, message.read_ct, message.holder)
