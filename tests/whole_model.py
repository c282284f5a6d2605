"""What one queue promises with all options and policies, as plain Python: no SQL and no clock.

Where `model` says which messages a plain lease gives, this one says what each call of the API may
do to each message, whatever options it has. Nothing is due by itself: `come_due` moves the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

STANDARD, SHORT, SINGLETON, STATELY, EXCLUSIVE, FIFO = (
    *("standard", "short", "singleton", "stately", "exclusive"),
    "fifo",
)
POLICIES = (STANDARD, SHORT, SINGLETON, STATELY, EXCLUSIVE, FIFO)
RESTORED = {"resume": {"cancelled"}, "retry": {"failed", "dead"}}
QUEUE_LIMIT = 3


class Fence(NamedTuple):
    id: int
    read_ct: int
    holder: int


@dataclass(frozen=True)
class Message:
    """One message; `due` says that its time has come, or that its lease ran out."""

    id: int
    priority: int = 0
    limit: int | None = None
    key: str | None = None
    window: str | None = None
    message_id: str | None = None
    letters: bool = False
    retry_at_once: bool = False
    due: bool = True
    leased: bool = False
    read_ct: int = 0
    returned: int = 0
    holder: int | None = None
    begun: bool = False
    origin: int | None = None
    """Of a dead letter, in a queue of its own: which message it is a copy of."""

    @property
    def urgency(self) -> tuple[int, int]:
        return (-self.priority, self.id)

    @property
    def is_held(self) -> bool:
        return self.leased and not self.due

    @property
    def is_spent(self) -> bool:
        return self.read_ct - self.returned >= (self.limit or QUEUE_LIMIT)


@dataclass(frozen=True)
class Past:
    """A finished message, as it was, and how it ended."""

    message: Message
    status: str
    whole: bool


@dataclass
class Queue:
    """The promise: tell it what the real queue was asked, and compare."""

    policy: str
    mode: str
    paused: bool = False
    waiting: dict[int, Message] = field(default_factory=dict)
    archived: dict[int, Past] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    """Who opened each."""
    used: set[str] = field(default_factory=set)
    letters: list[Message] = field(default_factory=list)
    """Copies of what died, which have no id here yet."""

    def change(self, each: int, **new: object) -> None:
        self.waiting[each] = replace(self.waiting[each], **new)

    def kept_out(self, message: Message) -> bool | None:
        """Say whether a new message must be kept out; None where it may be."""
        there = [*self.waiting.values(), *(past.message for past in self.archived.values())]
        if message.message_id and message.message_id in {m.message_id for m in there}:
            return True
        if message.window in self.windows or self.stands(message.key):
            return True
        return None if message.message_id in self.used else False

    def stands(self, key: str | None, *, begun: bool = False) -> bool:
        """Say whether one of the queue stands where no other of its key may."""
        if key is None or self.policy not in {SHORT, STATELY, EXCLUSIVE}:
            return False
        alone = self.policy == EXCLUSIVE
        others = [m for m in self.waiting.values() if m.key == key and m.origin is None]
        return (alone or not begun) and any(alone or not m.begun for m in others)

    def in_windows(self) -> list[Message]:
        """Give the messages of the queue that were sent with a window."""
        own = (m for m in self.waiting.values() if m.origin is None)
        return [message for message in own if message.window is not None]

    def enqueue(self, message: Message) -> None:
        assert message.id > max([0, *self.waiting, *self.archived]), "ids only rise"
        self.waiting[message.id] = message
        if message.window is not None:
            self.windows[message.window] = message.id
        if message.message_id:
            self.used.add(message.message_id)

    def come_due(self, ids: Iterable[int]) -> None:
        for each in ids:
            self.change(each, due=True)

    def spent(self) -> set[int]:
        """Give what ran out for the last time."""
        own = [m for m in self.waiting.values() if m.origin is None]
        return {m.id for m in own if m.leased and m.due and m.is_spent}

    def free(self, message: Message) -> bool:
        """Say that no other message of its key holds a message back."""
        others = [m for m in self.waiting.values() if m.key == message.key and m.id != message.id]
        others = [m for m in others if m.origin is None]
        if message.key is None or self.policy in {STANDARD, SHORT, EXCLUSIVE}:
            return True
        leased = any(m.is_held for m in others)
        earlier = any(m.begun and m.id < message.id for m in others)
        if self.policy == STATELY:
            return not (leased or earlier or (not message.begun and any(m.begun for m in others)))
        if self.policy == FIFO:
            return not (leased or earlier or any(m.id < message.id for m in others))
        return not leased

    def leasable(self) -> list[Message]:
        """Give what may be leased now, the most urgent first."""
        spent = self.spent()
        own = [m for m in self.waiting.values() if m.origin is None and m.due and m.id not in spent]
        found = [] if self.paused else [m for m in own if self.free(m)]
        return sorted(found, key=lambda m: m.urgency)

    @property
    def takes_turns(self) -> bool:
        """Say whether one of a key is leased at a time."""
        return self.policy in {SINGLETON, STATELY, FIFO}

    def best(self, leasable: list[Message]) -> list[Message]:
        """Choose what a lease of any size gives: of each key one, where the policy says so."""
        best: dict[object, Message] = {}
        for message in leasable:
            alone = self.takes_turns and message.key is not None
            best.setdefault(message.key if alone else message.id, message)
        return list(best.values())

    def lease(self, ids: list[int], holder: int) -> list[Fence]:
        """Lease these; says under which counts."""
        for each in ids:
            count = self.waiting[each].read_ct + 1
            new = {"leased": True, "due": False, "begun": True, "read_ct": count}
            self.change(each, **new, holder=holder)
        return [Fence(each, self.waiting[each].read_ct, holder) for each in ids]

    def holds(self, fence: Fence) -> bool:
        message = self.waiting.get(fence.id)
        return message is not None and (message.read_ct, message.holder) == fence[1:]

    def finish(self, each: int, status: str | None) -> None:
        """Archive under a status, or delete; what died leaves a copy if it was to."""
        message = self.waiting.pop(each)
        assert each not in self.archived, "a message ends once"
        window = message.window
        if status == "cancelled" and window is not None and self.windows.get(window) == each:
            del self.windows[window]
        if status is not None and not (status == "completed" and self.mode == "none"):
            self.archived[each] = Past(message, status, self.mode != "meta")

    def die(self, each: int) -> None:
        message = self.waiting[each]
        if message.letters:
            self.letters.append(message)
        self.finish(each, "dead")

    def give_back(self, each: int, *, due: bool, counts: bool) -> None:
        returned = self.waiting[each].returned + (not counts)
        self.change(each, leased=False, due=due, holder=None, returned=returned)

    def fail(self, each: int, *, due: bool) -> bool:
        """End an attempt; says whether that was the last."""
        if self.waiting[each].is_spent:
            self.die(each)
            return True
        self.give_back(each, due=due, counts=True)
        return False

    def restore(self, each: int, how: str) -> bool:
        """Let a finished message wait again, if it may; says whether it does."""
        past = self.archived.get(each)
        if past is None or past.status not in RESTORED[how] or not past.whole:
            return False
        message = past.message
        begun = message.read_ct > 0
        if self.stands(message.key, begun=begun):
            return False
        del self.archived[each]
        attempts = message.read_ct - message.returned
        new: dict[str, object] = {"returned": message.read_ct}
        if how == "retry":
            new = {"limit": max(message.limit or QUEUE_LIMIT, attempts) + 1}
        waits = {"leased": False, "due": True, "holder": None, "begun": begun}
        self.waiting[each] = replace(message, **waits, **new)
        return True

    def copy(self, each: int, new: int) -> None:
        """Enqueue a finished message anew, under a new id."""
        again = {"message_id": None, "due": True, "leased": False, "begun": False}
        old = self.archived[each].message
        self.waiting[new] = replace(old, **again, id=new, read_ct=0, returned=0, holder=None)

    def receive(self, letter: int, each: int) -> None:
        """Note the copy of what died, under its id in the dead letter queue."""
        (old,) = [m for m in self.letters if m.id == each]
        self.letters.remove(old)
        again = {"message_id": None, "due": True, "leased": False, "holder": None}
        self.waiting[letter] = replace(old, **again, id=letter, origin=each, read_ct=0, returned=0)

    def send_back(self) -> int:
        """Move dead letters to where they came from, but for those that are kept out there."""
        moved = 0
        for each in sorted(m.id for m in self.waiting.values() if m.origin is not None):
            if not (self.policy == EXCLUSIVE and self.stands(self.waiting[each].key)):
                self.change(each, origin=None, begun=True)
                moved += 1
        return moved

    def erase(self, ids: Iterable[int]) -> int:
        return sum(self.archived.pop(each, None) is not None for each in ids)

    def purge(self) -> int:
        own = [each for each, message in self.waiting.items() if message.origin is None]
        for each in own:
            del self.waiting[each]
        return len(own)
