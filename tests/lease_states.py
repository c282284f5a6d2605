"""All states that `lease_model` can be in, walked through breadth first.

A state has one part for each message, and all but a lease happens to each part by itself; so what
can happen is worked out once for each part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lease_model import (
    DEAD,
    DELAYED,
    GONE,
    KEPT,
    LATE,
    LEASED,
    READY,
    WORKERS,
    Claim,
    Kind,
    Message,
    Move,
    Part,
    Rules,
    State,
    Step,
    acts,
    broken,
    crashed,
    how,
    mirrored,
)


@dataclass
class Row:
    """All that can happen to one part; what is refused is `still`, and changes nothing."""

    own: list[Move] = field(default_factory=list)
    still: list[Move] = field(default_factory=list)
    mirrored: int = 0
    """The part with the workers in each other's place."""
    crash: dict[int, int] = field(default_factory=dict)
    reclaim: int = 0
    lease: dict[int, Move] = field(default_factory=dict)
    """By worker, where the message is due."""
    bury: Move | None = None


CRASHES = [Move.of(Step("crash", worker), "gone") for worker in WORKERS]
RECLAIM = Move.of(Step("reclaim"), "ended")


class Space:
    """The parts there are, by number, and what can happen to each."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.parts: list[Part] = []
        self.numbers: dict[Part, int] = {}
        self.rows: list[Row | None] = []

    def number(self, part: Part) -> int:
        if part not in self.numbers:
            self.numbers[part] = len(self.parts)
            self.parts.append(part)
            self.rows.append(None)
        return self.numbers[part]

    def row(self, number: int) -> Row:
        row = self.rows[number]
        if row is None:
            row = self.rows[number] = self._row(self.parts[number])
        return row

    def steps(self, state: State) -> Iterator[tuple[Move, State]]:
        """Give all that changes a state, each with the state after it."""
        rows = [self.row(number) for number in state]
        for which, row in enumerate(rows):
            for move in row.own:
                yield move, _with(state, which, move.after)
        for worker in WORKERS:
            yield CRASHES[worker], tuple(row.crash[worker] for row in rows)
            yield from self._leases(state, rows, worker)
        yield RECLAIM, tuple(row.reclaim for row in rows)

    def _leases(self, state: State, rows: list[Row], worker: int) -> Iterator[tuple[Move, State]]:
        step, spent = Step("lease", worker), [row.bury for row in rows]
        buried = tuple(
            n if move is None else move.after for n, move in zip(state, spent, strict=True)
        )
        fault = "".join(move.fault for move in spent if move)
        due = next((which for which, row in enumerate(rows) if row.lease), None)
        if due is None:
            late = {READY, LATE} & {self.parts[number].message.place for number in buried}
            fault = fault or ("asked in vain beside what is due" if late else "")
            yield Move.of(step, "nothing" if buried == state else "buried", 0, fault), buried
            return
        move = rows[due].lease[worker]
        if buried != state:
            old, said = self.parts[state[due]].message, f"{move.said}, and buried"
            yield Move.of(step, said, 0, fault or move.fault, old), _with(buried, due, move.after)
        # What is spent waits for the next look if it ran out after the one that is leased.
        if buried == state or self.parts[state[due]].message.place == LATE:
            yield move, _with(state, due, move.after)

    def refused(self, state: State) -> Iterator[tuple[Move, int]]:
        """Give all that is tried in a state and changes nothing, each with the message."""
        for which, number in enumerate(state):
            for move in self.row(number).still:
                yield move, which

    def mirrored(self, state: State) -> State:
        """Give the same state with the workers in each other's place."""
        return tuple(self.row(number).mirrored for number in state)

    def _row(self, part: Part) -> Row:
        row, message = Row(mirrored=self.number(mirrored(part))), part.message
        moves = [
            self._move(part, Step(name), "due", message._replace(place=new))
            for name, old, new in (("expire", LEASED, LATE), ("come due", DELAYED, READY))
            if message.place == old
        ]
        for claim in sorted(part.claims):
            for name, said, new in acts(message, claim, self.rules):
                moves.append(self._move(part, Step(name, *claim), said, new))
        for move in moves:
            changes = move.fault or self.parts[move.after] != part
            (row.own if changes else row.still).append(move)
        for worker in WORKERS:
            row.crash[worker] = self.number(crashed(part, worker))
        orphaned = (message.place, message.holder) == (LEASED, GONE)
        ended = message._replace(place=LATE) if orphaned else message
        row.reclaim = self.number(part._replace(message=ended))
        self._line(part, row)
        return row

    def _line(self, part: Part, row: Row) -> None:
        message, rules = part.message, self.rules
        dies = message.place == LATE or (message.place == LEASED and not rules.death_waits)
        if dies and message.is_spent and rules.limit_holds:
            dead = message._replace(place=DEAD, holder=None)
            row.bury = self._move(part, Step("lease"), "buried", dead)
            return
        late = message.place == LATE and rules.leases_come_back
        if late or message.place == READY or (message.place == LEASED and not rules.leases_hold):
            for worker in WORKERS:
                count = message.read_ct + 1
                new = message._replace(place=LEASED, read_ct=count, holder=worker)
                claims = part.claims | {Claim(worker, count)}
                step, said = Step("lease", worker), how(message, worker)
                row.lease[worker] = self._move(Part(message, claims), step, said, new)

    def _move(self, part: Part, step: Step, said: str, new: Message) -> Move:
        fault = broken(step, said, part.message, new)
        return Move.of(step, said, self.number(part._replace(message=new)), fault, part.message)


def _with(state: State, which: int, number: int) -> State:
    return (*state[:which], number, *state[which + 1 :])


@dataclass
class Found:
    """How many states and steps there are, of which kinds, and the fault if there is one."""

    states: int = 0
    steps: int = 0
    kinds: set[Kind] = field(default_factory=set)
    fault: str = ""
    trace: list[str] = field(default_factory=list)


def explore(rules: Rules = KEPT, messages: int = 2, *, alike: bool = True) -> Found:
    """Walk through all states; stop at the first broken promise, with the shortest way there.

    Where the workers are `alike`, of two states that differ in their names only one is walked
    through, and the names on the way are not to be relied upon.
    """
    space, found = Space(rules), Found()
    start = (space.number(Part()),) * messages
    came: dict[State, tuple[State, Move] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        found.steps += sum(len(space.row(number).still) for number in state)
        for move, after in space.steps(state):
            found.steps += 1
            found.kinds.add(move.kind)
            if move.fault:
                found.fault, found.trace = move.fault, spoken([*way(came, state), move])
                return found
            named = min(after, space.mirrored(after)) if alike else after
            if named not in came:
                came[named] = (state, move)
                waiting.append(named)
    found.states = len(came)
    parts = {number for state in came for number in state}
    found.kinds |= {move.kind for number in parts for move in space.row(number).still}
    return found


def way(came: dict[State, tuple[State, Move] | None], state: State) -> list[Move]:
    """Give the shortest way from where `came` begins to a state."""
    moves = []
    while (before := came[state]) is not None:
        state, move = before
        moves.append(move)
    return moves[::-1]


def spoken(moves: Iterable[Move]) -> list[str]:
    return [f"{move.step.spoken()}: {move.said}" for move in moves]
