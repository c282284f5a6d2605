"""Many processes at once, killed at any moment, and the queue keeps every promise.

First that the judge of histories sees each kind of broken promise; then the real thing.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from history import (
    LOST,
    REST,
    UNKNOWN,
    Fence,
    Operation,
    Row,
    Sample,
    Sampler,
    faults,
    read,
    recount,
    sample_faults,
)
from history_client import END, LIMIT, QUEUE, never_acknowledged, run
from processes import forks
from sqlalchemy import Engine, text
from story import Story, change, drop, early, edit, flip, forget, move, put_off

from pgqrs import Admin

MEMORY = 256 << 20
"""Bytes that no client may grow above."""


def a_good_one() -> Story:
    """Messages a to f: archived, deleted, given back and archived, dead, waiting, unknown."""
    story = Story()
    story.enqueue(a=1, b=2, c=3, d=4, e=5)
    story.tell("enqueue", answered=False, keys=["f"])
    for each in (1, 2, 3, 4):
        story.lease(each, 1, 100, 200)
    story.act("archive", 1, 1)
    story.act("delete", 2, 1)
    story.act("archive", 2, 1, LOST)
    story.act("release", 3, 1)
    story.lease(3, 2, 120, 220)
    story.act("extend", 3, 2, until=300)
    story.lease(3, 3, 300, 400)
    story.act("archive", 3, 2, LOST)
    story.act("archive", 3, 3)
    story.lease(4, 2, 200, 300)
    story.row(1, 1, "completed")
    story.row(3, 3, "completed", returned_ct=1)
    story.row(4, 2, "dead")
    story.row(5, 0)
    story.row(6, 0)
    return story


FAULTS: dict[str, tuple[str, Callable[[Story], Any]]] = {
    "lost": ("a message was lost", lambda s: s.rest.pop(3)),
    "both places": ("in two places", lambda s: s.row(1, 1)),
    "enqueued twice": ("one message twice", lambda s: s.row(9 - 3, 0, id=9)),
    "unknown twice": ("one message twice", lambda s: s.row(6, 0, id=7)),
    "from nowhere": ("a message from nowhere", lambda s: s.row(6, 0, id=8, key="z")),
    "payloads mixed": ("another message's payload", lambda s: s.lease(5, 1, 1, 2, key="a")),
    "same count twice": ("leased twice under one count", lambda s: s.lease(4, 2, 400, 500)),
    "overlap": ("leases overlap", lambda s: edit(s, 4, 2, begun=199)),
    "overlap after extending": ("leases overlap", lambda s: edit(s, 3, 3, begun=299)),
    "leased before given back": ("leased before", lambda s: move(s, "lease", 3, 2, to=1)),
    "overlap unseen": ("leases overlap", lambda s: edit(s, 4, 2, begun=150, read_ct=3)),
    "too often": ("leased beyond the limit", lambda s: edit(s, 4, 2, read_ct=3)),
    "dead while leased": ("dead under a lease", lambda s: change(s, 4, ended=250)),
    "expired after all": ("ended twice", lambda s: change(s, 1, status="expired")),
    "read_ct fell": ("read_ct did not rise", lambda s: edit(s, 4, 2, begun=99)),
    "nobody's lease": ("leases that nobody took", lambda s: drop(s, "lease", 4, 2)),
    "counted, not leased": ("leases that nobody took", lambda s: change(s, 5, read_ct=1)),
    "archived twice": ("ended twice", lambda s: s.act("archive", 1, 1)),
    "archived and deleted": ("ended twice", lambda s: s.act("delete", 1, 1)),
    "archived and dead": ("ended twice", lambda s: change(s, 1, status="dead", read_ct=2)),
    "stale archive": ("under a lease that was over", lambda s: flip(s, "archive", 3, 2)),
    "deleted, there": ("deleted and still there", lambda s: s.row(2, 1)),
    "deleted, archived": ("deleted and still there", lambda s: s.row(2, 1, "completed")),
    "archived, gone": ("not at rest as it was", lambda s: s.rest.pop(0)),
    "archived, waits": ("not at rest as it was", lambda s: change(s, 1, status=None)),
    "other holder": ("not at rest as it was", lambda s: change(s, 1, worker=8)),
    "archived by nobody": ("archived by nobody", lambda s: change(s, 5, status="completed")),
    "extended after the end": ("acted on after its end", lambda s: s.act("extend", 1, 1)),
    "acted unleased": ("acted on without a lease", lambda s: s.act("release", 5, 1)),
    "told lost": ("told lost without reason", lambda s: flip(s, "archive", 1, 1, LOST)),
    "dead early": ("dead and the limit", lambda s: change(s, 4, returned_ct=1)),
    "dead late": ("dead and the limit", lambda s: change(s, 3, returned_ct=0)),
    "release cost": ("given back more or less", lambda s: change(s, 3, returned_ct=0)),
    "release doubled": ("given back more or less", lambda s: change(s, 3, returned_ct=2)),
}


def a_good_run() -> Story:
    """Handlers finish message a at once, b after a failure; c's first holder was killed."""
    story = Story()
    story.enqueue(a=1, b=2, c=3)
    for each in (1, 2, 3):
        story.lease(each, 1, 100, 200)
        story.deed("start", each, 1, 100, 200)
    story.deed("return", 1, 1, 100, 200)
    story.act("extend", 1, 1, until=300)
    story.act("archive", 1, 1)
    story.act("fail", 2, 1)
    story.tell("extend", fences=[Fence(3, 1)], until=300, answered=False)
    for each in (2, 3):
        story.lease(each, 2, 200, 300)
        story.deed("start", each, 2, 200, 300)
        story.deed("return", each, 2, 200, 300)
        story.act("archive", each, 2)
    for each, count in ((1, 1), (2, 2), (3, 2)):
        story.row(each, count, "completed", output={"id": each, "read_ct": count})
    return story


RUN_FAULTS: dict[str, tuple[str, Callable[[Story], Any]]] = {
    "started twice": ("handled twice under one", lambda s: s.deed("start", 1, 1, 100, 200)),
    "returned twice": ("handled twice under one", lambda s: s.deed("return", 1, 1, 100, 200)),
    "unleased": ("handled without a lease", lambda s: s.deed("start", 1, 2, 200, 300)),
    "other lease": ("handled without a lease", lambda s: edit(s, 1, 1, until=201)),
    "after its end": ("handled after its end", lambda s: put_off(s, "start", 1, 1)),
    "completed unhandled": ("before it was done", lambda s: forget(s, "return", 1, 1)),
    "completed early": ("before it was done", lambda s: put_off(s, "return", 1, 1)),
    "other output": ("another handler's output", lambda s: change(s, 1, output={"id": 2})),
    "no trace": ("left no trace", lambda s: s.lease(1, 2, 300, 400)),
    "extension ignored": ("leases overlap", lambda s: flip(s, "extend", 3, 1)),
    "not failed": ("leases overlap", lambda s: early(s, "fail", 2)),
    "fail told lost": ("told lost without reason", lambda s: s.act("fail", 6, 1, LOST)),
    "failed after": ("acted on after its end", lambda s: s.act("fail", 1, 1)),
}


def test_a_good_history_passes() -> None:
    """A history in which all promises are kept has no faults, whatever is unknown in it."""
    assert a_good_one().faults() == []
    story = a_good_one()
    story.rest.pop()
    assert story.faults() == [], "what a killed producer sent need not be there"
    for kind, each, count in (("archive", 1, 1), ("delete", 2, 1), ("release", 3, 1)):
        story = a_good_one()
        flip(story, kind, each, count, UNKNOWN)
        assert story.faults() == [], "an answer that never came may have been any"
    story = a_good_one()
    drop(story, "lease", 4, 2)
    story.tell("lease", answered=False, size=1)
    assert story.faults() == [], "a killed consumer had that lease"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_seen(name: str) -> None:
    """The judge sees each kind of broken promise."""
    fault, plant = FAULTS[name]
    story = a_good_one()
    plant(story)
    assert any(fault in found for found in story.faults()), story.faults()


def test_a_good_history_of_handlers_passes() -> None:
    """What was killed, failed or not answered on the way is no fault of the queue."""
    assert a_good_run().faults() == []
    for kind, each, count in (("archive", 1, 1), ("fail", 2, 1), ("extend", 1, 1)):
        story = a_good_run()
        flip(story, kind, each, count, UNKNOWN)
        assert story.faults() == []
    story = a_good_run()
    flip(story, "archive", 1, 1, UNKNOWN)
    story.act("archive", 1, 1, LOST)
    assert story.faults() == [], "sent again, because the first answer never came"
    story = a_good_run()
    put_off(story, "start", 3, 1)
    assert story.faults() == [], "a process slept past its lease before its handler began"


@pytest.mark.parametrize("name", RUN_FAULTS)
def test_each_fault_of_handling_is_seen(name: str) -> None:
    """The judge sees each kind of promise that is broken where handlers are run."""
    fault, plant = RUN_FAULTS[name]
    story = a_good_run()
    plant(story)
    assert any(fault in found for found in story.faults()), story.faults()


@dataclass
class Client:
    """One process after another under one name: when killed, the next goes on."""

    what: str
    name: str
    dsn: str
    folder: Path
    chance: random.Random
    count: int = 0
    kills: int = 0
    lines: int = 0
    logs: list[Path] = field(default_factory=list)
    process: Any = None

    def start(self) -> None:
        self.logs.append(self.folder / f"{self.name}.{len(self.logs)}.jsonl")
        fatal = self.chance.randrange(500, 12_000) if self.kills else None
        sent = [key for o in self.history() for key in o.keys]
        start = 1 + max([0, *(int(key.split("-")[1]) for key in sent)])
        names = [f"{self.name}-{number}" for number in range(start, self.count + 1)]
        arguments = (self.what, self.dsn, self.logs[-1], self.chance.random(), fatal, names)
        arguments = (*arguments, self.lines)
        self.process = forks().Process(target=run, args=arguments)
        self.process.start()

    def history(self) -> list[Operation]:
        return [o for log in self.logs if log.exists() for o in read(log)]

    def watch(self) -> bool:
        """Start the next one if it was killed, and say whether it has finished."""
        code, error = self.process.exitcode, self.logs[-1].with_suffix(".err")
        if self.kills and code == -signal.SIGKILL:
            self.kills -= 1
            self.start()
            return False
        assert code in (None, 0), (code, error.exists() and error.read_text())
        return code == 0


@pytest.fixture
def clients(dsn: str, tmp_path: Path) -> Iterator[Callable[..., list[Client]]]:
    """Makes clients, and leaves none behind."""
    made: list[Client] = []

    def make(seed: str, each: int, **options: int) -> list[Client]:
        for number, what in itertools.product(range(each), ("produce", "consume")):
            chance = random.Random(f"{seed}-{what}-{number}")
            made.append(Client(what, f"{what}{number}", dsn, tmp_path, chance, **options))
            made[-1].start()
        return made

    yield make
    for client in made:
        if client.process is not None and client.process.pid is not None:
            client.process.kill()
            client.process.join()
            client.process.close()


def play(engine: Engine, crowd: list[Client], seconds: float) -> list[Sample]:
    """Watch the clients until the queue is empty and nobody adds to it; gives what was seen."""

    def pids() -> list[int]:
        return [client.process.pid for client in crowd if client.process.pid]

    with Sampler(crowd[0].dsn, pids) as sampler:
        watch(engine, crowd, seconds)
    (crowd[0].folder / END).touch()
    for client in crowd:
        client.process.join(30)
        codes = {0, -signal.SIGKILL} if client.kills else {0}  # a kill may have been on its way
        assert client.process.exitcode in codes, client.name
    return sampler.samples


def watch(engine: Engine, crowd: list[Client], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        finished = [client.watch() for client in crowd if client.what == "produce"]
        ended = [client.name for client in crowd if client.what == "consume" and client.watch()]
        assert not ended, "a consumer ended by itself"
        with engine.connect() as connection:
            left = connection.execute(text("SELECT FROM pgqrs.pgqrs_messages LIMIT 1")).first()
        if all(finished) and left is None:
            return
        late = [(c.name, c.process.exitcode, len(c.logs), c.kills) for c in crowd]
        assert time.monotonic() < deadline, f"the queue is not empty in time: {late}"
        time.sleep(0.02)


def judge(engine: Engine, admin: Admin, crowd: list[Client], samples: list[Sample]) -> None:
    operations = [o for client in crowd for o in client.history()]
    with engine.connect() as connection:
        rest = [Row(*row) for row in connection.execute(REST)]
    assert faults(operations, rest, LIMIT, policy=admin.get_queue(QUEUE).policy) == []
    assert len(samples) > 10
    assert sample_faults(samples, connections=2 * len(crowd), memory=MEMORY) == []
    assert recount(admin) == []
    dead = {row.key for row in rest if row.status == "dead"}
    assert {row.key for row in rest if never_acknowledged(row.key)} <= dead
    assert admin.queue_metrics(QUEUE).total_messages == 0


@pytest.mark.timeout(240)
def test_processes_at_once(
    engine: Engine, admin: Admin, clients: Callable[..., list[Client]]
) -> None:
    """4 producers, 4 consumers, 20,000 messages, short leases, SIGKILLs: all promises are kept."""
    admin.create_queue(QUEUE)
    seed = os.environ.get("PGQRS_TEST_SEED", "1")
    crowd = clients(seed, 4, count=5000, kills=5)
    judge(engine, admin, crowd, play(engine, crowd, 150))
    operations = [o for client in crowd for o in client.history()]
    assert sum(len(o.keys) for o in operations) == 20_000
    for what in ("produce", "consume"):
        killed = sum(len(client.logs) - 1 for client in crowd if client.what == what)
        assert killed >= 10, f"only {killed} were killed of those who {what}"


@pytest.mark.timeout(240)
def test_lines_at_once(engine: Engine, admin: Admin, clients: Callable[..., list[Client]]) -> None:
    """The same in a fifo queue: of each line one message is leased at a time, in its order."""
    admin.create_queue(QUEUE, policy="fifo")
    crowd = clients("1", 2, count=100, kills=2, lines=5)
    judge(engine, admin, crowd, play(engine, crowd, 150))
    killed = sum(len(client.logs) - 1 for client in crowd)
    assert killed >= 4, f"only {killed} were killed"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_processes_at_length(
    engine: Engine, admin: Admin, clients: Callable[..., list[Client]]
) -> None:
    """The same with ten times the messages and kills, and other chances each time."""
    admin.create_queue(QUEUE)
    seed = str(time.time())
    print("seed", seed)  # noqa: T201 - shown when the test fails
    crowd = clients(seed, 4, count=50_000, kills=50)
    judge(engine, admin, crowd, play(engine, crowd, 1500))
