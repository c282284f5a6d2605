"""A model of leases, small enough to look at every state it can be in.

Two workers and two messages of three attempts, each of which may be given back once. A step is one
statement, which the server does as a whole, or something that befalls a worker. What a worker
remembers of a lease is its claim. It forgets none until it crashes, so it may act late, when the
message was leased again, given back or finished, and twice, as one does whose answer was lost.

Here is what a step does to one message, and which promise that may break; `lease_states` walks
through all there is. `FAULTS` are ways to get it wrong, which it has to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

READY, DELAYED, LEASED, LATE, DONE, DEAD, DELETED = range(7)
"""Where a message is; LATE is leased until some time ago."""
ENDED = {DONE, DEAD, DELETED}
LIMIT = 3
RETURNS = 1
WORKERS = (0, 1)
GONE = 2
"""A worker that is no more: a new one never has its id."""


class Message(NamedTuple):
    place: int = READY
    read_ct: int = 0
    returned: int = 0
    holder: int | None = None

    @property
    def is_spent(self) -> bool:
        return self.read_ct - self.returned >= LIMIT

    @property
    def looks(self) -> tuple[int, bool, int]:
        return (self.place, self.is_spent, self.returned)


NEW = Message()


class Claim(NamedTuple):
    """What a worker remembers of a lease of one message."""

    worker: int
    read_ct: int


class Part(NamedTuple):
    """One message, and all that workers remember of it."""

    message: Message = NEW
    claims: frozenset[Claim] = frozenset()


class Step(NamedTuple):
    """What is done, by whom, and as leased under which count."""

    name: str
    worker: int | None = None
    read_ct: int | None = None

    def spoken(self) -> str:
        who = "" if self.worker is None else f"worker {self.worker}: "
        return f"{who}{self.name}" + (f" lease {self.read_ct}" if self.read_ct else "")


Kind = tuple[str, str, int, bool, int]
"""A step, what is said of it, and where the message was before: place, spent, given back."""
State = tuple[int, ...]
"""The number of each part."""


class Move(NamedTuple):
    """What a step does to one part: what is said of it, the part after it, a broken promise."""

    step: Step
    said: str
    after: int = 0
    fault: str = ""
    kind: Kind = ("", "", 0, False, 0)

    @classmethod
    def of(cls, step: Step, said: str, after: int = 0, fault: str = "", old: Message = NEW) -> Self:
        return cls(step, said, after, fault, (step.name, said, *old.looks))


@dataclass(frozen=True)
class Rules:
    """What the statements look at; the queue keeps its promises when all are as here."""

    fence: bool = True
    leases_hold: bool = True
    leases_come_back: bool = True
    limit_holds: bool = True
    return_forgets: bool = True
    death_waits: bool = True


KEPT = Rules()
FAULTS = {
    "the fence is not checked": Rules(fence=False),
    "a lease takes what is leased": Rules(leases_hold=False),
    "what ran out never comes back": Rules(leases_come_back=False),
    "attempts are not counted": Rules(limit_holds=False),
    "what is given back keeps its holder": Rules(return_forgets=False),
    "the last attempt is not waited for": Rules(death_waits=False),
}


def acts(message: Message, claim: Claim, rules: Rules) -> list[tuple[str, str, Message]]:
    """Give what a claim can be used for, what is said to it, and what becomes of the message."""
    if not _holds(message, claim, rules):
        said = _why(message, claim)
        return [(n, said, message) for n in ("archive", "delete", "fail", "release", "extend")]
    said = "held" if message.place == LEASED else "late"
    holder = None if rules.return_forgets else message.holder
    ended = message._replace(holder=None)
    failed = ("fail", said, message._replace(place=DELAYED, holder=holder))
    if message.is_spent:
        failed = ("fail", f"{said}, and dead", ended._replace(place=DEAD))
    back = message._replace(place=READY, holder=holder, returned=message.returned + 1)
    return [
        ("archive", said, ended._replace(place=DONE)),
        ("delete", said, ended._replace(place=DELETED)),
        failed,
        *([("release", said, back)] if message.returned < RETURNS else []),
        ("extend", said if message.place == LEASED else "lost: ran out", message),
    ]


def _holds(message: Message, claim: Claim, rules: Rules) -> bool:
    places = {LEASED, LATE} if rules.return_forgets else {LEASED, LATE, READY, DELAYED}
    same = (message.holder, message.read_ct) == claim
    return message.place in places and (same or not rules.fence)


def _why(message: Message, claim: Claim) -> str:
    if message.place in ENDED:
        return "lost: ended"
    return f"lost: {'given back' if message.read_ct == claim.read_ct else 'leased again'}"


def how(message: Message, worker: int) -> str:
    if message.holder is None:
        return "again" if message.read_ct else "first"
    return {worker: "its own", GONE: "a dead one's"}.get(message.holder, "another's")


def crashed(part: Part, worker: int) -> Part:
    """It forgets all, and the next one has another id."""
    claims = frozenset(claim for claim in part.claims if claim.worker != worker)
    mine = part.message.holder == worker
    return Part(part.message._replace(holder=GONE) if mine else part.message, claims)


def mirrored(part: Part) -> Part:
    other = {0: 1, 1: 0}
    holder = part.message.holder
    claims = frozenset(Claim(other[claim.worker], claim.read_ct) for claim in part.claims)
    return Part(part.message._replace(holder=other.get(holder, holder)), claims)


def broken(step: Step, said: str, old: Message, new: Message) -> str:
    """Say which promise a step breaks, or nothing."""
    return _stolen(step, said, old, new) or _spoiled(step, old, new)


def _stolen(step: Step, said: str, old: Message, new: Message) -> str:
    if step.read_ct is not None:
        mine = (old.holder, old.read_ct) == (step.worker, step.read_ct)
        mine = mine and old.place in {LEASED, LATE}
        if new != old and not mine:
            return "changed by somebody who had lost it"
        if said.startswith("lost") and mine and (step.name != "extend" or old.place == LEASED):
            return "told lost without reason"
    return ""


def _spoiled(step: Step, old: Message, new: Message) -> str:
    if new != old and old.place in ENDED:
        return "what ended changed"
    if new.read_ct != old.read_ct + (step.name == "lease" and new.place == LEASED):
        return "read_ct did not rise by one with a lease, or rose without"
    if new.read_ct - new.returned > LIMIT:
        return "tried beyond its limit"
    if step.name == "lease" and old.place == LEASED:
        return "leased or buried while somebody holds it"
    if new.place == DEAD and not old.is_spent:
        return "dead before its limit"
    return ""
