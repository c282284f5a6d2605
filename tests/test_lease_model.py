"""In every state that leases can be in the promises hold, and the statements do as the model says.

The model is explored whole; then its steps are done on real connections, until each kind of step
was done in each situation of a message, and the tables are compared after every one.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Iterator

import pytest
from lease_model import (
    DELETED,
    FAULTS,
    GONE,
    KEPT,
    LIMIT,
    WORKERS,
    Kind,
    Message,
    Move,
    Part,
    State,
)
from lease_states import Space, explore, spoken
from sqlalchemy import Engine, text

from pgqrs import Admin
from pgqrs.operations import acknowledge, settle, supervise, workers
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Burial, Terms, bury, lease
from pgqrs.types import WorkerRole

HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)
TERMS = Terms(1, HOUR, HOUR, LIMIT)
RETRY = settle.RetryTerms(LIMIT, HOUR, HOUR, backoff=False)
ENQUEUE = text(
    "INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)"
    " SELECT :queue, now(), now(), '1' FROM generate_series(1, 2) RETURNING id"
)
MOVE = text(
    "UPDATE pgqrs.pgqrs_messages SET vt = statement_timestamp() - interval '1 day'"
    " + :place * interval '1 us' WHERE id = :id"
)
SILENT = text(
    "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 hour' WHERE id = :id"
)
LOOK = text(
    "SELECT id,"
    "  CASE WHEN state = 2 AND vt > now() THEN 2 WHEN consumer_worker_id IS NOT NULL THEN 3"
    "  WHEN state = 1 AND vt > now() THEN 1 ELSE 0 END, read_ct, returned_ct, consumer_worker_id"
    " FROM pgqrs.pgqrs_messages UNION ALL"
    " SELECT id, CASE status WHEN 'dead' THEN 5 ELSE 4 END, read_ct, returned_ct, NULL"
    " FROM pgqrs.pgqrs_archive WHERE id = ANY (:ids)"
)
"""Asks for the fields of `Message` by id; what has a holder and is not leased was let run out."""


def kinds() -> set[Kind]:
    """Give the kinds of steps there are: those of one message, and leases that bury the other."""
    alone = explore(messages=1).kinds
    leases = [kind for kind in alone if kind[0] == "lease" and kind[1] not in {"nothing", "buried"}]
    return alone | {("lease", f"{said}, and buried", *old) for _, said, *old in leases}


def test_every_state_keeps_the_promises() -> None:
    """Two workers, two messages, three attempts: no order of steps breaks a promise."""
    found = explore()
    assert (found.fault, found.trace) == ("", [])
    assert (found.states, found.steps) == (225_980, 6_039_127)
    assert found.kinds == kinds()


TRACES = {
    "the fence is not checked": [
        "worker 0: lease: first",
        "expire: due",
        "worker 0: lease: its own",
        "worker 0: archive lease 1: held",
    ],
    "a lease takes what is leased": ["worker 0: lease: first", "worker 0: lease: its own"],
    "what ran out never comes back": [
        "worker 0: lease: first",
        "expire: due",
        "worker 0: lease: first",
        "worker 0: lease: nothing",
    ],
    "attempts are not counted": [
        "worker 0: lease: first",
        *["expire: due", "worker 0: lease: its own"] * 3,
    ],
    "what is given back keeps its holder": [
        "worker 0: lease: first",
        "worker 0: fail lease 1: held",
        "worker 0: archive lease 1: late",
    ],
    "the last attempt is not waited for": [
        "worker 0: lease: first",
        *["expire: due", "worker 0: lease: its own"] * 2,
        "worker 0: lease: first, and buried",
    ],
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_shortest_way(name: str) -> None:
    """A statement that forgets one of its conditions breaks a promise, and the model says how."""
    found = explore(FAULTS[name], alike=False)
    assert found.fault
    assert found.trace == TRACES[name]


class Worker:
    """A worker process as far as the server can tell: a connection, and an id of its own."""

    def __init__(self, engine: Engine) -> None:
        self.connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        address = workers.Address("work", WorkerRole.CONSUMER)
        place = workers.register(self.connection, "pgqrs", address, MINUTE)
        self.queue, self.id = place.queue_id, place.worker_id

    def act(self, name: str, fence: Fence) -> bool:
        """Do one thing under a lease; says whether it was held."""
        mine = (self.connection, "pgqrs", self.id)
        if name == "archive":
            return acknowledge.archive(*mine, fence, "completed", None) is not None
        if name == "delete":
            return acknowledge.delete(*mine, fence)
        if name == "extend":
            return acknowledge.extend(*mine, fence, HOUR) is not None
        if name == "release":
            return bool(acknowledge.release(*mine, [fence], dt.timedelta()))
        failures, holder = [settle.Failure(fence, "1", HOUR)], (self.queue, self.id)
        return bool(settle.fail_many(self.connection, "pgqrs", holder, failures, RETRY))


class Stage:
    """The real thing: two messages and two workers, to whom the steps of the model happen."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.admin = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.workers = [Worker(engine) for _ in WORKERS]
        self.ids: list[int] = []
        self.places, self.direction = 0, 1
        self.steps = 0

    def begin(self) -> None:
        """Begin with two new messages; nobody has leased any other."""
        self.admin.execute(text("DELETE FROM pgqrs.pgqrs_messages"))
        queue = {"queue": self.workers[0].queue}
        self.ids = sorted(self.admin.execute(ENQUEUE, queue).scalars())

    def do(self, move: Move, which: int) -> bool | None:
        """Do a step; says whether a lease was held, if that was the question."""
        self.steps += 1
        name, worker, read_ct = move.step
        if read_ct is not None:
            return self.workers[worker].act(name, Fence(self.ids[which], read_ct))
        if name == "lease":
            me = self.workers[worker]
            upto = lease(me.connection, "pgqrs", me.queue, me.id, TERMS).bury_upto
            if upto is not None:
                attempts, burial = TERMS.default_attempts, Burial(upto, None)
                bury(me.connection, "pgqrs", me.queue, attempts, burial)
        elif name == "crash":
            self.workers[worker].connection.invalidate()
            self.workers[worker].connection.close()
            self.admin.execute(SILENT, {"id": self.workers[worker].id})
            self.workers[worker] = Worker(self.engine)
        elif name == "reclaim":
            supervise.reclaim(self.admin, "pgqrs", "work", MINUTE)
        else:
            self.places += self.direction
            self.admin.execute(MOVE, {"id": self.ids[which], "place": self.places})
        return None

    def look(self) -> list[Message | None]:
        """Give the messages as the model has them; None where there is no trace of one."""
        rows = {row[0]: Message(*row[1:]) for row in self.admin.execute(LOOK, {"ids": self.ids})}
        names: dict[int | None, int | None] = {w.id: i for i, w in enumerate(self.workers)}
        names[None] = None
        found = [rows.get(each) for each in self.ids]
        return [m and m._replace(holder=names.get(m.holder, GONE)) for m in found]

    def close(self) -> None:
        for connection in (self.admin, *(worker.connection for worker in self.workers)):
            connection.close()


Happening = tuple[Move, int, State]
"""A move, the message it is about (-1: all), and the state after it."""


FAR = 40_000
"""How many states are looked at for the next one to go to."""


def back(came: dict[State, tuple[State, Happening] | None], state: State) -> list[Happening]:
    happenings = []
    while (before := came[state]) is not None:
        state, happening = before
        happenings.append(happening)
    return happenings[::-1]


class Walk:
    """Goes where a kind of step was not done yet, by the shortest way; compares at each step."""

    def __init__(self, stage: Stage, kinds: set[Kind]) -> None:
        self.stage, self.left = stage, set(kinds)
        self.space = Space(KEPT)
        self.start: State = (self.space.number(Part()),) * 2
        self.state = self.start
        stage.begin()

    def go(self) -> None:
        """Walk until every kind was done."""
        for _ in range(10 * len(self.left)):
            if not self.left:
                return
            way = self.way()
            if way is None:
                self.stage.begin()
                self.state = self.start
                way = self.way()
            assert way is not None, f"nowhere to be met: {self.left}"
            if not all(self.takes(*happening) for happening in way):
                self.stage.direction *= -1  # what is buried depends on what ran out first
        raise AssertionError(f"never met: {self.left}")

    def happenings(self, state: State) -> Iterator[Happening]:
        for move, after in self.space.steps(state):
            changed = [i for i, (a, b) in enumerate(zip(state, after, strict=True)) if a != b]
            single = move.step.name not in {"lease", "crash", "reclaim"}
            yield move, changed[0] if single else -1, after
        for move, which in self.space.refused(state):
            yield move, which, state

    def way(self) -> list[Happening] | None:
        """Give the shortest way to what was not done yet; None where it is far."""
        came: dict[State, tuple[State, Happening] | None] = {self.state: None}
        waiting = deque([self.state])
        while waiting and len(came) < FAR:
            state = waiting.popleft()
            for happening in self.happenings(state):
                move, _, after = happening
                if move.kind in self.left:
                    return [*back(came, state), happening]
                if after not in came:
                    came[after] = (state, happening)
                    waiting.append(after)
        return None

    def takes(self, move: Move, which: int, wanted: State) -> bool:
        """Do a step, and say whether it led where it was to lead: it must be somewhere it may."""
        before, held = self.state, self.stage.do(move, which)
        found = self.stage.look()
        for other, place, after in self.happenings(before):
            if (other.step, place) == (move.step, which) and self.shows(after, found):
                assert held in (None, not other.said.startswith("lost")), (move, before, found)
                self.left.discard(other.kind)
                self.state = after
                return after == wanted
        parts = [self.space.parts[number] for number in before]
        raise AssertionError(f"{parts}, then {spoken([move])}, should not give {found}")

    def shows(self, state: State, found: list[Message | None]) -> bool:
        wanted = [self.space.parts[number].message for number in state]
        return [None if message.place == DELETED else message for message in wanted] == found


def test_the_statements_do_as_the_model_says(engine: Engine, admin: Admin) -> None:
    """Each kind of step in each situation, on real connections, gives what the model gives."""
    admin.create_queue("work")
    stage = Stage(engine)
    try:
        near = {kind for kind in kinds() if not ("and buried" in kind[1] and kind[-1])}
        Walk(stage, near).go()
    finally:
        stage.close()
    assert stage.steps >= len(near)
