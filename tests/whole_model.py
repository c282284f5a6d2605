"""What one queue promises with all options and policies, as plain Python: no SQL and no clock.

Where `model` says which messages a plain lease gives, this one says what each call of the API may
do to each message, whatever options it has. Nothing is due by itself: `come_due` and `leap` move
the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from whole_terms import DAY, HISTORY, KEPT_FOR, holding, wait_after
from whole_workers import Staff

STANDARD, SHORT, SINGLETON, STATELY, EXCLUSIVE, FIFO = (
    *("standard", "short", "singleton", "stately", "exclusive"),
    "fifo",
)
POLICIES = (STANDARD, SHORT, SINGLETON, STATELY, EXCLUSIVE, FIFO)
RESTORED = {"resume": {"cancelled"}, "retry": {"failed", "dead"}}


class Fence(NamedTuple):
    id: int
    read_ct: int
    holder: int


@dataclass(frozen=True)
class Message:
    """One message; `due` says that its time has come, or that its lease ran out.

    `leased` is it until it waits in the line again, run out or not.
    """

    id: int
    priority: int = 0
    said: Mapping[str, Any] = field(default_factory=dict)
    """Its own attempts, retries, leases, keeping and dead letters."""
    key: str | None = None
    window: str | None = None
    message_id: str | None = None
    since: float = 0.0
    """When it was last given a time to be due at; which matters only while it was never leased."""
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
    def attempts(self) -> int:
        return self.read_ct - self.returned


@dataclass(frozen=True)
class Past:
    """A finished message, as it was, and how it ended."""

    message: Message
    status: str
    whole: bool
    since: float


@dataclass
class Queue:
    """The promise: tell it what the real queue was asked, and compare."""

    policy: str
    given: dict[str, Any]
    """Its own options; those that it does not have are the configuration's."""
    paused: bool = False
    staff: Staff = field(default_factory=Staff)
    waiting: dict[int, Message] = field(default_factory=dict)
    archived: dict[int, Past] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    """Who opened each."""
    used: dict[str, float] = field(default_factory=dict)
    """When each id of a caller's was taken, or last seen in use."""
    letters: list[Message] = field(default_factory=list)
    """Copies of what died, which have no id here yet."""

    def change(self, each: int, **new: object) -> None:
        if "due" in new:
            new["since"] = self.now
        self.waiting[each] = replace(self.waiting[each], **new)

    @property
    def now(self) -> float:
        return self.staff.now

    def holding(self, name: str, message: Message | None = None) -> Any:
        """Say what holds for a message, or of the queue."""
        return holding(name, message.said if message else {}, self.given)

    def lasts(self, message: Message, asked: float | None) -> float:
        """Say how long a lease lasts, in seconds, for which somebody may have asked for a time."""
        return message.said.get("expire_in") or asked or self.holding("visibility_timeout")

    def wait_after(self, message: Message) -> tuple[float, float]:
        return wait_after(message.attempts, message.said, self.given)

    def is_spent(self, message: Message) -> bool:
        return message.attempts >= self.holding("max_attempts", message)

    def leap(self, hours: float) -> None:
        """Let all delays, leases and windows end."""
        for each in self.waiting:
            self.waiting[each] = replace(self.waiting[each], due=True)
        self.windows.clear()
        self.staff.now += hours

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
        self.waiting[message.id] = replace(message, since=self.now)
        if message.window is not None:
            self.windows[message.window] = message.id
        if message.message_id:
            self.used[message.message_id] = self.now

    def come_due(self, ids: Iterable[int]) -> None:
        for each in ids:
            self.change(each, due=True)

    def spent(self) -> set[int]:
        """Give what ran out for the last time."""
        own = [m for m in self.waiting.values() if m.origin is None]
        return {m.id for m in own if m.leased and m.due and self.is_spent(m)}

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

    def pass_over(self, ids: Iterable[int]) -> None:
        """Let what a lease found run out, and did not take, wait in the line with its holder."""
        for each in ids:
            message = self.waiting[each]
            if message.leased:
                assert message.due
                assert not self.is_spent(message)
                self.change(each, leased=False)

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
        mode = self.holding("archive_mode")
        if status is not None and not (status == "completed" and mode == "none"):
            self.archived[each] = Past(message, status, mode != "meta", self.now)

    def die(self, each: int) -> None:
        message = self.waiting[each]
        if self.holding("dead_letter", message):
            self.letters.append(message)
        self.finish(each, "dead")

    def give_back(self, each: int, *, due: bool, counts: bool) -> None:
        returned = self.waiting[each].returned + (not counts)
        self.change(each, leased=False, due=due, holder=None, returned=returned)

    def fail(self, each: int, *, due: bool) -> bool:
        """End an attempt; says whether that was the last."""
        if self.is_spent(self.waiting[each]):
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
        new: dict[str, object] = {"returned": message.read_ct}
        if how == "retry":
            limit = max(self.holding("max_attempts", message), message.attempts) + 1
            new = {"said": {**message.said, "max_attempts": limit}}
        self.waiting[each] = message
        self.change(each, leased=False, due=True, holder=None, begun=begun, **new)
        return True

    def copy(self, each: int, new: int) -> None:
        """Enqueue a finished message anew, under a new id."""
        again = {"message_id": None, "due": True, "leased": False, "begun": False}
        self.waiting[new] = self.archived[each].message
        self.change(new, **again, id=new, read_ct=0, returned=0, holder=None)

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
                self.change(each, origin=None, begun=True, due=True)
                moved += 1
        return moved

    def erase(self, ids: Iterable[int]) -> int:
        return sum(self.archived.pop(each, None) is not None for each in ids)

    def purge(self) -> int:
        own = [each for each, message in self.waiting.items() if message.origin is None]
        for each in own:
            del self.waiting[each]
        return len(own)

    def maintain(self) -> dict[str, int]:
        """Do what a queue needs from time to time; says how much there was of each."""
        self.look_after_ids()
        dead, lost = ([], []) if self.paused else (sorted(self.spent()), self.lost())
        for each in dead:
            self.die(each)
        for each in lost:
            self.waiting[each] = replace(self.waiting[each], leased=False)
        over = [each for each, past in self.archived.items() if self.is_over(past)]
        unwanted = [each for each, message in self.waiting.items() if self.is_unwanted(message)]
        self.erase(over)
        for each in unwanted:
            self.finish(each, "expired")
        holders = {m.holder for m in self.waiting.values() if m.leased}
        return {
            "dead_messages": len(dead),
            "reclaimed_messages": len(lost),
            "purged_messages": len(over),
            "expired_messages": len(unwanted),
            "purged_workers": self.staff.purge(holders),
        }

    def lost(self) -> list[int]:
        """Give what ran out for workers that are gone, and may be tried again."""
        late = [m for m in self.waiting.values() if m.leased and m.due and not self.is_spent(m)]
        return [m.id for m in late if not self.staff.is_alive(m.holder)]

    def is_over(self, past: Past) -> bool:
        """Say that what is archived was kept as long as it or else its queue said."""
        own = past.message.said.get("retain_for") is not None
        history = math.inf if self.holding("retention") is None else HISTORY
        return self.now - past.since > (KEPT_FOR if own else history)

    def is_unwanted(self, message: Message) -> bool:
        """Say that nobody ever leased a message in the time that it is kept for."""
        fresh = message.origin is None and not message.read_ct
        kept = fresh and message.said.get("retain_for") is not None
        return kept and self.now - message.since > KEPT_FOR

    def look_after_ids(self) -> None:
        """Free those not in use; of what is purged in the same round, the next day."""
        there = [*self.waiting.values(), *(past.message for past in self.archived.values())]
        held = {message.message_id for message in there}
        for each in [each for each, at in self.used.items() if self.now - at > DAY]:
            if each in held:
                self.used[each] = self.now
            else:
                del self.used[each]
