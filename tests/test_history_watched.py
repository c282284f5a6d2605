"""The checker sees who waits too long, who comes out of turn, and what tables and metrics show.

Each kind of broken promise is planted, in a history, in the tables or in the metrics.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from history import LOST, OK, Lease, Sample, Sampler, recount, sample_faults
from history.recount import COUNTS, RECOUNT, count_faults, total_faults
from sqlalchemy import Engine, text
from story import Story, change, drop, edit, flip
from waiting import until

from pgqrs import Admin, Consumer, Producer

S = 1_000_000


def a_good_wait() -> Story:
    """Message a is leased, runs out and is back; d is urgent, b and c wait; e is due later."""
    story = Story()
    story.enqueue(a=1, b=2, c=3, more={"due": [0, 0, 0]})
    story.enqueue(d=4, more={"due": [5 * S], "priority": 1})
    story.enqueue(e=5, more={"due": [20 * S]})
    leases = [(1, 1, 1), (1, 2, 3), (2, 1, 4), (4, 1, 6), (3, 1, 7), (5, 1, 22)]
    for each, count, at in leases:
        story.lease(each, count, at * S, (at + 1) * S)
        if (each, count) != (1, 1):
            story.act("archive", each, count)
    for each, count, ended in ((1, 2, 4), (2, 1, 5), (3, 1, 8), (4, 1, 7), (5, 1, 23)):
        story.row(each, count, "completed", ended=ended * S, priority=int(each == 4))
    for at in (8, 12, 16):
        story.tell("lease", size=1, vain=at * S)
    return story


def vain(story: Story, *seconds: int) -> None:
    for at in seconds:
        story.tell("lease", size=1, vain=at * S)


def late(story: Story, each: int, count: int, second: int) -> None:
    """The next lease of a message comes this late."""
    edit(story, each, count, begun=second * S, until=(second + 1) * S)
    change(story, each, ended=(second + 1) * S)


def unleased(story: Story, each: int, **row: Any) -> None:
    """A message is at rest without its last lease, as if that had never been."""
    story.operations = [
        o
        for o in story.operations
        if all(lease.id != each for lease in o.leases) and all(f.id != each for f in o.fences)
    ]
    change(story, each, **row)


WAITS: dict[str, tuple[str, Callable[[Story], Any]]] = {
    "due": ("asked in vain", lambda s: late(s, 5, 1, 40) or vain(s, 22, 30, 35)),
    "expired": ("asked in vain", lambda s: late(s, 1, 2, 19)),
    "never": ("asked in vain", lambda s: unleased(s, 3, status=None, read_ct=0, ended=0)),
    "not buried": ("asked in vain", lambda s: late(s, 5, 1, 22) or dead(s, 50)),
    "older": ("passed over", lambda s: late(s, 2, 1, 19) or crowd(s, [8, 12, 16])),
    "more urgent": ("passed over", lambda s: late(s, 4, 1, 50) or crowd(s, [6, 9, 10])),
}
"""What the checker says, and how a wait that is too long is planted."""


def dead(story: Story, second: int) -> None:
    """What ran out for the last time is buried this late, though somebody asks."""
    story.operations.pop(
        [o.kind == "archive" and o.fences[0].id == 5 for o in story.operations].index(True)
    )
    change(story, 5, status="dead", ended=second * S, read_ct=1, returned_ct=0)
    vain(story, 25, 30, 35)


def crowd(story: Story, seconds: list[int]) -> None:
    """Less urgent ones are leased at these times."""
    for place, at in enumerate(seconds):
        story.tell("lease", size=1, leases=[Lease(5, 3 + place, "e", at * S, at * S + 1)])


@pytest.mark.parametrize("name", WAITS)
def test_who_waits_too_long_is_seen(name: str) -> None:
    """Somebody who asks is not left without what is due; better ones are not passed over."""
    assert a_good_wait().faults() == []
    fault, plant = WAITS[name]
    story = a_good_wait()
    plant(story)
    assert any(fault in found for found in story.faults()), story.faults()
    assert not any(fault in found for found in story.faults(bound=60 * S))
    assert not any(fault in found for found in story.faults(bound=None))


def in_turn() -> Story:
    """Messages a, b and c of one key, each leased when the one before is archived or deleted."""
    story = Story()
    story.enqueue(a=1, b=2, c=3, more={"group": "g"})
    for each in (1, 2, 3):
        story.lease(each, 1, each * 100, each * 100 + 99)
        story.act("delete" if each == 2 else "archive", each, 1)
    story.row(1, 1, "completed", ended=150)
    story.row(3, 1, "completed", ended=350)
    return story


def at_once(story: Story, outcome: str) -> None:
    flip(story, "delete", 2, 1, outcome)
    edit(story, 3, 1, begun=250)


def skipped(story: Story) -> None:
    drop(story, "archive", 1, 1)
    drop(story, "lease", 1, 1)
    change(story, 1, status=None, read_ct=0)


TURNS: dict[str, tuple[str, str, Callable[[Story], Any]]] = {
    "two at once": ("singleton", "two of a key leased", lambda s: edit(s, 2, 1, begun=149)),
    "one was never deleted": ("singleton", "two of a key", lambda s: at_once(s, LOST)),
    "out of turn": ("fifo", "leased before its turn", lambda s: edit(s, 2, 1, begun=149)),
    "one ran out": ("fifo", "leased before its turn", lambda s: change(s, 1, ended=250)),
    "one was not leased": ("fifo", "leased before its turn", skipped),
}
"""Under which policy what the checker says, and how it is planted."""


@pytest.mark.parametrize("name", TURNS)
def test_who_comes_out_of_turn_is_seen(name: str) -> None:
    """Of one key one message is leased at a time; under fifo in the order of their ids."""
    policy, fault, plant = TURNS[name]
    good = in_turn()
    assert good.faults(policy=policy) == []
    at_once(good, OK)
    assert good.faults(policy=policy) == [], "deleted in time, so the next was free"
    story = in_turn()
    plant(story)
    assert any(fault in found for found in story.faults(policy=policy)), story.faults(policy=policy)
    assert not any(fault in found for found in story.faults())


ROWS = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, key, key_slot, state, vt, read_ct, enqueued_at, payload)
  SELECT id, 'k', g, :state, now() + :left * interval '1 s', :read_ct, now(), '1'
  FROM pgqrs.pgqrs_queues, generate_series(1, 2) g WHERE queue_name = :queue
"""
TWICE = """
INSERT INTO pgqrs.pgqrs_archive (queue_id, id, vt, enqueued_at, archived_at, read_ct, returned_ct,
    priority, status, payload)
  SELECT queue_id, id, vt, enqueued_at, now(), 1, 0, 0, 'completed', '1' FROM pgqrs.pgqrs_messages
"""
CROWDS = {
    "singleton": (2, 60, 1),
    "fifo": (2, 60, 1),
    "stately": (2, 60, 1),
    "short": (0, 0, 0),
    "exclusive": (1, 60, 0),
}
"""Policies, with a state, seconds left and read count of which each allows one of a key."""


def sampled(dsn: str) -> list[Sample]:
    """Look on until there are some samples."""
    with Sampler(dsn, lambda: [os.getpid()]) as sampler:
        until(lambda: len(sampler.samples) > 1)
    return sampler.samples


def test_samples_show_what_no_instant_may(dsn: str, engine: Engine, admin: Admin) -> None:
    """Looks ten times a second see a message in two places, and what grows."""
    admin.create_queue("q")
    producer = Producer(admin, "q")
    producer.batch_enqueue([1, 2])
    good = sampled(dsn)
    assert all(later.at > sample.at for sample, later in pairwise(good))
    size = max(sample.memory[os.getpid()] for sample in good)
    assert sample_faults(good, connections=2, memory=size + 1) == []
    assert any("connections" in fault for fault in sample_faults(good, connections=0))
    assert any("memory" in fault for fault in sample_faults(good, memory=size // 2))
    with engine.begin() as connection:
        connection.execute(text(TWICE))
    assert any("and in the archive" in fault for fault in sample_faults(sampled(dsn)))


def test_samples_show_more_of_a_key_than_allowed(dsn: str, engine: Engine, admin: Admin) -> None:
    """Looks see two of a key that wait or are leased where the policy of the queue allows one."""
    for policy, (state, left, read_ct) in CROWDS.items():
        queue = admin.create_queue(policy, policy=policy).queue_name
        terms = {"queue": queue, "state": state, "left": left, "read_ct": read_ct}
        with engine.begin() as connection:
            connection.execute(text(ROWS), {**terms, "left": -1, "state": 2, "read_ct": 1})
        crowded = policy == "exclusive"
        assert any(policy in key for key in sampled(dsn)[-1].crowded) == crowded
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))
            connection.execute(text(ROWS), terms)
        found = sampled(dsn)
        assert [f"{policy} k"] == found[-1].crowded
        assert any("more of a key" in fault for fault in sample_faults(found))
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM pgqrs.pgqrs_messages"))


def test_metrics_are_counted_again(engine: Engine, admin: Admin) -> None:
    """At rest the metrics are what the tables have; a figure that is one off is seen."""
    for name in ("a", "b"):
        admin.create_queue(name)
    producer, consumer = Producer(admin, "a"), Consumer(admin, "a")
    producer.batch_enqueue([1] * 5, max_attempts=1)
    producer.enqueue_delayed(1, 3600)
    done, died, _ = consumer.dequeue_batch(3, 3600)
    consumer.archive(done)
    consumer.fail(died, "so be it")
    admin.pause_queue("b")
    assert recount(admin) == []
    with engine.connect() as connection:
        counted = connection.execute(RECOUNT).all()
    assert tuple(counted[0]) == ("a", False, 2, 1, 1, 2, 1)
    first, second = admin.all_queues_metrics()
    for name in COUNTS:
        wrong = replace(first, **{name: getattr(first, name) + 1})
        assert f"a {name}" in count_faults([wrong, second], counted)[0]
        stats = admin.system_stats()
        less = replace(stats, **{name: getattr(stats, name) - 1})
        assert name in total_faults(less, counted)[0]
    assert count_faults([replace(first, oldest_pending_at=None), second], counted)
    assert count_faults([first, replace(second, paused=False)], counted)
    assert total_faults(replace(admin.system_stats(), paused_queues=0), counted)


def test_what_is_urgent_may_pass_also_where_its_enqueue_was_never_answered() -> None:
    """The producer died, the message is deleted: only the key says how urgent it was."""
    for priority, fault in ((1, False), (0, True)):
        story = Story()
        story.enqueue(a=1, more={"due": [0]})
        story.tell("enqueue", keys=["d", "e", "f"], priority=priority, answered=False)
        for each in (4, 5, 6):
            story.lease(each, 1, each * 3 * S, (each * 3 + 1) * S)
            story.act("delete", each, 1)
        story.lease(1, 1, 30 * S, 31 * S)
        story.act("archive", 1, 1)
        story.row(1, 1, "completed", ended=31 * S)
        assert any("passed over" in each for each in story.faults()) is fault
