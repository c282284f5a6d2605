"""Every order in which two or three transactions can meet on one message ends as promised.

Each transaction is one operation and its commit or rollback. An operation that has to wait for
another's row lock does so in a thread, which the server says is blocked.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from pgqrs import Admin, Consumer
from pgqrs.operations import acknowledge
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Terms, lease

HOUR = dt.timedelta(hours=1)
TERMS = Terms(1, HOUR, HOUR, 5)
STARTS = {"held": (1, "+"), "expired": (1, "-"), "spent": (5, "-")}
"""How the message is at the beginning: its read count, and whether its lease has run out."""
ENDS = ("commit", "rollback")

Step = tuple[int, str]
"""Which transaction, and what it does: "act", "commit" or "rollback"."""


class Stage:
    """One message, leased by one worker, on which all transactions act in that worker's name."""

    def __init__(self, engine: Engine, queue: int, worker: int, start: str) -> None:
        self.queue, self.worker = queue, worker
        self.read_ct, sign = STARTS[start]
        self.fence = Fence(1, self.read_ct)
        self.watcher = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.reset = text(
            "DELETE FROM pgqrs.pgqrs_messages; DELETE FROM pgqrs.pgqrs_archive;"
            " INSERT INTO pgqrs.pgqrs_messages (id, queue_id, payload, state, read_ct, vt,"
            " enqueued_at, dequeued_at, consumer_worker_id) OVERRIDING SYSTEM VALUE"
            f" VALUES (1, {queue}, '{{}}', 2, {self.read_ct}, now() {sign} interval '1 hour',"
            f" now(), now(), {worker})"
        )

    def act(self, name: str, connection: Connection) -> Any:
        """Do one operation; gives what it says it did, or None."""
        mine = (connection, "pgqrs", self.worker)
        if name == "lease":
            found = lease(connection, "pgqrs", self.queue, self.worker, TERMS).messages
            return found[0].read_ct if found else None
        if name == "expire":
            return connection.execute(EXPIRE).scalar()
        if name == "archive":
            return acknowledge.archive(*mine, self.fence, "completed", None)
        if name == "delete":
            return acknowledge.delete(*mine, self.fence) or None
        if name == "extend":
            return acknowledge.extend(*mine, self.fence, 2 * HOUR)
        return acknowledge.release(*mine, [self.fence], dt.timedelta()) or None

    def blocked(self, pids: Iterable[int]) -> set[int]:
        return set(self.watcher.execute(BLOCKED, {"pids": list(pids)}).scalars())


EXPIRE = text(
    "UPDATE pgqrs.pgqrs_messages SET vt = statement_timestamp() - interval '1 hour'"
    " WHERE id = 1 RETURNING read_ct"
)
LOOK = text(
    "SELECT NULL, read_ct, returned_ct FROM pgqrs.pgqrs_messages"
    " UNION ALL SELECT status, read_ct, returned_ct FROM pgqrs.pgqrs_archive"
)
BLOCKED = text("SELECT pid FROM unnest(:pids) pid WHERE cardinality(pg_blocking_pids(pid)) > 0")


class Actor:
    """A connection with a thread of its own, for what may have to wait."""

    def __init__(self, engine: Engine) -> None:
        self.connection = engine.connect()
        self.pid = self.connection.scalar(text("SELECT pg_backend_pid()"))
        self.connection.rollback()
        self.thread = ThreadPoolExecutor(1)
        self.doing: Future[Any] | None = None

    @property
    def waits(self) -> bool:
        return self.doing is not None and not self.doing.done()

    def close(self) -> None:
        self.thread.shutdown()
        self.connection.close()


class Play:
    """Plays schedules with one operation for each actor, and says what came of each."""

    def __init__(self, stage: Stage, actors: list[Actor], acts: tuple[str, ...]) -> None:
        self.stage, self.actors, self.acts = stage, actors, acts
        self.impossible: set[tuple[Step, ...]] = set()

    def play(self, schedule: tuple[Step, ...]) -> bool:
        """Play one schedule; False where somebody would have to act while waiting."""
        if any(schedule[:length] in self.impossible for length in range(2, len(schedule))):
            return False
        self.stage.watcher.execute(self.stage.reset)
        try:
            for place, (who, step) in enumerate(schedule):
                actor = self.actors[who]
                if actor.waits:
                    self.impossible.add(schedule[: place + 1])
                    return False
                self.take(actor, who, step)
                self.settle()
        finally:
            self.let_go()
        return True

    def take(self, actor: Actor, who: int, step: str) -> None:
        if step == "act":
            act = self.acts[who]
            actor.doing = actor.thread.submit(self.stage.act, act, actor.connection)
        else:
            actor.thread.submit(getattr(actor.connection, step)).result(30)

    def settle(self) -> None:
        """Wait until each actor is done with its step, or the server says that it is blocked."""
        deadline = time.monotonic() + 30
        while running := {actor.pid: actor for actor in self.actors if actor.waits}:
            wait([actor.doing for actor in running.values() if actor.doing], 0.001)
            if running.keys() <= self.stage.blocked(running):
                waiting = [self.acts[who] for who, a in enumerate(self.actors) if a.waits]
                assert "lease" not in waiting, "a lease waited for a row of somebody else's"
                return
            assert time.monotonic() < deadline, "neither done nor blocked"

    def let_go(self) -> None:
        """End all transactions: those that wait for nobody first, then whom they kept waiting."""
        left = list(self.actors)
        while left:
            self.settle()
            free = [actor for actor in left if not actor.waits]
            assert free, "all wait for one another"
            for actor in free:
                if actor.connection.in_transaction():
                    actor.thread.submit(actor.connection.rollback).result(30)
                left.remove(actor)

    def outcome(self, schedule: tuple[Step, ...]) -> list[tuple[str, Any]]:
        """Give what was done and committed."""
        ends = {who: step for who, step in schedule if step != "act"}
        said = [actor.doing.result(0) for actor in self.actors if actor.doing]
        return [
            (act, result)
            for who, (act, result) in enumerate(zip(self.acts, said, strict=True))
            if result is not None and ends[who] == "commit"
        ]


def schedules(acts: tuple[str, ...]) -> Iterator[tuple[Step, ...]]:
    """Give every interleaving with every choice of ends; equal operations begin in turn."""
    turns = sorted(set(itertools.permutations([who for who in range(len(acts)) for _ in "ab"])))
    for turn in turns:
        first = [who for place, who in enumerate(turn) if who not in turn[:place]]
        if any(acts[a] == acts[b] and a > b for a, b in itertools.combinations(first, 2)):
            continue
        for ends in itertools.product(ENDS, repeat=len(acts)):
            yield tuple(
                (who, ends[who] if who in turn[:place] else "act") for place, who in enumerate(turn)
            )


def check(stage: Stage, start: str, outcome: list[tuple[str, Any]]) -> None:
    """Say whether what was committed, and what is left, is what was promised."""
    done = [act for act, _ in outcome]
    leases = sorted(result for act, result in outcome if act == "lease")
    ended = {result for act, result in outcome if act == "expire"}
    if "release" in done or start == "expired":
        ended.add(stage.read_ct)
    assert leases == list(range(stage.read_ct + 1, stage.read_ct + 1 + len(leases)))
    assert {count - 1 for count in leases} <= ended, "a lease began before the last one ended"
    assert start == "held" or "extend" not in done, "a lease that ran out was extended"
    finished = sum(done.count(act) for act in ("archive", "delete"))
    assert finished + (1 if leases else 0) <= 1, "finished under a lease that was over"
    assert finished + done.count("release") <= 1, "given back and finished, or given back twice"
    rows = stage.watcher.execute(LOOK).all()
    left = [tuple(row[1:]) for row in rows if row[0] is None]
    kept = [tuple(row[:2]) for row in rows if row[0] is not None]
    read_ct, returned = stage.read_ct + len(leases), done.count("release")
    if start == "spent" and not finished and not left:
        assert kept == [("dead", stage.read_ct)]
        assert done.count("release") == 0, "given back, and dead all the same"
    elif finished:
        assert (left, kept) == ([], [("completed", read_ct)] if "archive" in done else [])
    else:
        assert (left, kept) == ([(read_ct, returned)], [])


def play_all(engine: Engine, admin: Admin, acts: tuple[str, ...], start: str) -> int:
    queue = admin.create_queue("work").id
    with Consumer(engine, "work") as consumer:
        consumer.heartbeat()
        stage = Stage(engine, queue, consumer.worker_id or 0, start)
        play = Play(stage, [Actor(engine) for _ in acts], acts)
        played = 0
        try:
            for schedule in schedules(acts):
                if play.play(schedule):
                    check(stage, start, play.outcome(schedule))
                    played += 1
        finally:
            for actor in play.actors:
                actor.close()
            stage.watcher.close()
    return played


ACTS = ("lease", "archive", "delete", "extend", "release", "expire")
PAIRS = tuple(itertools.combinations_with_replacement(ACTS, 2))
MEETINGS = {
    ("lease", "archive"): "expired",
    ("expire", "lease"): "held",
    ("extend", "archive"): "held",
    ("release", "archive"): "held",
    ("release", "lease"): "expired",
    ("expire", "extend"): "held",
}
"""Which operations meet in threes, and how the message is then."""
THREES = [(trio, start) for (a, b), start in MEETINGS.items() for trio in ((a, a, b), (a, b, b))]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("first", ACTS)
def test_two(engine: Engine, admin: Admin, first: str, start: str) -> None:
    """Any two operations at once: one terminal transition, one lease at a time, no deadlock."""
    for number, acts in enumerate(pair for pair in PAIRS if pair[0] == first):
        if number:
            admin.delete_queue("work", force=True)
        assert play_all(engine, admin, acts, start) >= 8


@pytest.mark.parametrize(("acts", "start"), THREES, ids=["-".join(trio) for trio, _ in THREES])
def test_three(engine: Engine, admin: Admin, acts: tuple[str, ...], start: str) -> None:
    """Three at once keep to it too, in every order of statements, commits and rollbacks."""
    assert play_all(engine, admin, acts, start) >= 100
