"""Whatever is done with a queue, with all options and under every policy, its model says so too."""

from __future__ import annotations

import itertools
import math
import uuid
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from machine import MOVE, bury_now, run, succeeds
from sqlalchemy import text
from whole_model import EXCLUSIVE, POLICIES, RESTORED, STANDARD
from whole_stage import OPTIONS, RARE
from whole_terms import HOUR, SETTINGS
from whole_upkeep import Upkeep

from pgqrs import Config, ConflictError, LeaseLostError

WHO = st.integers(0, 1)
WHICH = st.integers(0, 9)
MANY = st.lists(WHICH, min_size=1, max_size=4)
KEEP_OUT = {"short", "stately", "exclusive"}
STATUSES = ["completed", "mine", "dead", None]
IDENTITIES = [str(uuid.UUID(int=number)) for number in range(3)]
LEFT = text(
    "SELECT extract(epoch FROM vt - statement_timestamp())::float8 FROM pgqrs.pgqrs_messages"
    " WHERE id = :id"
)


class Machine(Upkeep):
    """Does each thing to a queue and to the model of it."""

    @precondition(lambda self: len(self.model.waiting) < 12)
    @rule(options=OPTIONS, identity=st.none() | st.sampled_from(IDENTITIES), skip=st.booleans())
    def enqueue(self, options: dict[str, Any], identity: str | None, *, skip: bool) -> None:
        self.send(options | ({"message_id": identity} if identity else {}), skip=skip)

    @precondition(lambda self: len(self.model.waiting) < 8)
    @rule(options=OPTIONS, count=st.integers(0, 4), skip=st.booleans())
    def batch_enqueue(self, options: dict[str, Any], count: int, *, skip: bool) -> None:
        options, message = self.given(options)
        alone = message.window is not None or (
            self.model.policy in {"short", "stately", "exclusive"}
        )
        out = bool(self.model.kept_out(message))
        fit = 0 if out else min(count, 1) if alone else count
        how = "skip" if skip else "raise"
        try:
            sent = self.producer.batch_enqueue([{"n": 1}] * count, on_conflict=how, **options)
        except ConflictError:
            assert not skip
            assert fit < count
            return
        assert [each is not None for each in sent] == [place < fit for place in range(count)]
        for each in sent[:fit]:
            self.told(each, message, options)

    @precondition(lambda self: not all(m.due for m in self.model.waiting.values()))
    @rule(who=WHO, size=st.sampled_from([1, 100]), seed=st.randoms(use_true_random=False))
    def come_due_and_lease(self, who: int, size: int, seed: Any) -> None:
        """Let all leases run out and all delays end, and somebody take what is there."""
        self.come_due(seed, 1.0)
        self.lease(who, size, None)

    @precondition(lambda self: self.model.leasable())
    @rule(who=WHO, delay=st.sampled_from([None, 0, 0]))
    def try_in_vain(self, who: int, delay: int | None) -> None:
        """Lease all there is, and fail at it."""
        before = len(self.leases)
        self.lease(who, 100, None)
        for which in range(len(self.leases) - before):
            self.fail(which, delay)

    @precondition(lambda self: self.leases)
    @rule(
        which=WHICH,
        other=st.booleans(),
        status=st.sampled_from(["completed", "mine", "dead", None]),
    )
    def finish(self, which: int, status: str | None, *, other: bool) -> None:
        who, message, fence, held = self.chosen(which, other=other and which >= RARE)
        act = self.consumers[who].delete if status is None else self.consumers[who].archive
        assert succeeds(act, message, *([] if status is None else [status])) == held
        if held and status == "dead":
            self.model.die(fence.id)
        elif held:
            self.model.finish(fence.id, status)

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, delay=st.sampled_from([None, 0, HOUR]))
    def fail(self, which: int, delay: int | None) -> None:
        who, message, fence, held = self.chosen(which)
        was = self.model.waiting.get(fence.id)
        try:
            dead = self.consumers[who].fail(message, "why", delay)
        except LeaseLostError:
            assert not held
            return
        assert held
        wait = (delay, delay) if delay is not None else self.model.wait_after(was)
        assert dead == self.model.fail(fence.id, due=not wait[1])
        if not dead:
            left = self.connection.scalar(LEFT, {"id": fence.id})
            assert wait[0] - 60 < left < wait[1] + 1

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, delay=st.sampled_from([0, HOUR]))
    def release(self, which: int, delay: int) -> None:
        who, message, fence, held = self.chosen(which)
        assert succeeds(self.consumers[who].release, message, delay) == held
        if held:
            self.model.give_back(fence.id, due=not delay, counts=False)

    @precondition(lambda self: self.leases)
    @rule(which=WHICH)
    def extend(self, which: int) -> None:
        who, message, fence, held = self.chosen(which)
        held = held and self.model.waiting[fence.id].is_held
        assert succeeds(self.consumers[who].extend_visibility, message, 4 * HOUR) == held

    @precondition(lambda self: self.sent & self.model.waiting.keys())
    @rule(which=WHICH)
    def postpone(self, which: int) -> None:
        """The producer puts off what waits, or extends the lease; unless that ran out."""
        mine = sorted(self.sent & self.model.waiting.keys())
        message = self.model.waiting[mine[-1 - which % len(mine)]]
        done = succeeds(self.producer.extend_visibility, message.id, HOUR)
        assert done or (message.leased and message.due)
        if done and not message.is_held:
            self.model.change(message.id, due=False, leased=False)

    @precondition(lambda self: self.leases)
    @rule(many=MANY, act=st.sampled_from(["archive_batch", "delete_batch", "release"]), who=WHO)
    def batch(self, many: list[int], act: str, who: int) -> None:
        chosen = [self.chosen(which)[1] for which in many]
        found = getattr(self.consumers[who], act)(chosen)
        assert found == [self.acknowledged(who, message, act) for message in chosen]

    @precondition(lambda self: self.leases)
    @rule(many=MANY, who=WHO, size=st.sampled_from([1, 100]))
    def archive_and_dequeue(self, many: list[int], who: int, size: int) -> None:
        chosen = [self.chosen(which)[1] for which in many]
        known = self.model.staff.status(self.holders[who]) is not None  # else it registers anew
        done, found = self.consumers[who].archive_and_dequeue(chosen, size)
        bury_now(self.consumers[who])
        assert done == [self.acknowledged(who, message, "archive_batch") for message in chosen]
        mine = {m.id for m in chosen if m.consumer_worker_id == self.holders[who]}
        # Where that is one statement, it leaves alone what it was asked to archive.
        once = self.model.policy in {STANDARD, EXCLUSIVE} and known
        self.leased(who, size, None, found, mine if once else set())

    @precondition(lambda self: self.model.waiting)
    @rule(many=MANY, act=st.sampled_from(["cancel", "fail"]))
    def withdraw(self, many: list[int], act: str) -> None:
        ids, waiting = self.some(many, self.model.waiting), set(self.model.waiting)
        if act == "cancel":
            found, status = self.admin.cancel_messages(ids), "cancelled"
        else:
            found, status = self.admin.fail_messages(ids, "why"), "failed"
        assert found == [each in waiting for each in ids]
        for each in set(ids) & waiting:
            self.model.finish(each, status)

    @precondition(lambda self: self.model.in_windows())
    @rule(options=OPTIONS, which=WHICH)
    def cancel_and_send_again(self, options: dict[str, Any], which: int) -> None:
        """Cancelling what opened a window closes it: the next one with its key gets in."""
        open_ = self.model.in_windows()
        message = open_[which % len(open_)]
        assert self.admin.cancel_messages([message.id]) == [True]
        self.model.finish(message.id, "cancelled")
        self.send(options | {"singleton_for": HOUR, "key": message.window or None}, skip=True)

    @precondition(lambda self: self.model.waiting)
    @rule(many=MANY, act=st.sampled_from(["archive", "delete", "release"]), force=st.booleans())
    def intervene(self, many: list[int], act: str, *, force: bool) -> None:
        ids, waiting = self.some(many, self.model.waiting), dict(self.model.waiting)
        found = getattr(self.admin, f"{act}_messages")(ids, force=force)
        may = [each in waiting and (force or not waiting[each].is_held) for each in ids]
        assert found == may
        for each in itertools.compress(ids, may):
            if act == "release":
                self.model.give_back(each, due=True, counts=not waiting[each].is_held)
            else:
                self.model.finish(each, "completed" if act == "archive" else None)

    @precondition(lambda self: self.model.archived)
    @rule(many=MANY, act=st.sampled_from(["resume", "retry"]))
    def restore(self, many: list[int], act: str) -> None:
        past = self.model.archived.items()
        ids = self.some(many, [each for each, p in past if p.status in RESTORED[act]])
        found = getattr(self.admin, f"{act}_messages")(ids)
        assert found == [self.model.restore(each, act) for each in ids]

    @precondition(lambda self: self.model.archived and len(self.model.waiting) < 12)
    @rule(many=MANY)
    def replay(self, many: list[int]) -> None:
        ids = self.some(many, self.model.archived)
        for each, new in zip(ids, self.admin.replay(ids), strict=True):
            past = self.model.archived.get(each)
            may = past is not None and past.whole and not self.model.stands(past.message.key)
            assert (new is not None) == may
            if new is not None:
                self.model.copy(each, new.id)

    @precondition(lambda self: self.model.archived)
    @rule(many=MANY)
    def erase(self, many: list[int]) -> None:
        ids = self.some(many, self.model.archived)
        assert self.admin.erase_archived(self.name, ids) == self.model.erase(ids)

    @precondition(lambda self: any(m.origin for m in self.model.waiting.values()))
    @rule()
    def replay_dead_letters(self) -> None:
        assert self.admin.replay_dead_letters(self.letters) == self.model.send_back()

    @precondition(lambda self: len(self.model.waiting) > 8 and len(self.leases) % 4 == 2)
    @rule()
    def purge(self) -> None:
        assert self.admin.purge_queue(self.name) == self.model.purge()

    @precondition(lambda self: self.model.paused or len(self.leases) % 4 == 3)
    @rule()
    def pause_or_resume(self) -> None:
        act = self.admin.resume_queue if self.model.paused else self.admin.pause_queue
        self.model.paused = not self.model.paused
        assert act(self.name).paused == self.model.paused

    @precondition(lambda self: not all(m.due for m in self.model.waiting.values()))
    @rule(seed=st.randoms(use_true_random=False), part=st.sampled_from([0.3, 1.0]))
    def come_due(self, seed: Any, part: float) -> None:
        """Let some leases run out and some delays end, in any order."""
        late = [message.id for message in self.model.waiting.values() if not message.due]
        some = seed.sample(late, math.ceil(len(late) * part))
        for each in some:
            self.places += 1
            self.connection.execute(MOVE, {"id": each, "place": self.places})
        self.model.come_due(some)

    @precondition(lambda self: len(self.leases) % 3 == 1)
    @rule()
    def measure(self) -> None:
        found, now = self.admin.queue_metrics(self.name), self.model
        own = [m for m in now.waiting.values() if m.origin is None]
        held, due = sum(m.is_held for m in own), sum(m.due for m in own)
        dead = sum(past.status == "dead" for past in now.archived.values())
        assert (found.pending, found.locked, found.delayed) == (due, held, len(own) - due - held)
        assert (found.archived, found.dead, found.paused) == (len(now.archived), dead, now.paused)


def whole(dsn: str, policy: str, **options: Any) -> None:
    # A class for each, since what is tried without chance is so by its name.
    machine = type(f"{policy.title()}Machine", (Machine,), {"policy": policy})
    run(machine, Config.from_dsn(dsn, **SETTINGS), **options)


@pytest.mark.timeout(600)  # finding the shortest sequence that fails takes a while
@pytest.mark.parametrize("policy", POLICIES)
def test_the_whole_api(dsn: str, policy: str) -> None:
    """Any sequence of calls, with any options, under any policy, does what the model does."""
    whole(dsn, policy, max_examples=6, stateful_step_count=45, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_whole_api_at_length(dsn: str, policy: str) -> None:
    """The same, with other sequences each time, more of them and longer ones."""
    whole(dsn, policy, max_examples=60, stateful_step_count=60)
