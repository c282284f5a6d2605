"""What is done about a queue, beside its messages: time, maintenance, workers, and its options."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from machine import bury_now
from whole_stage import Stage
from whole_terms import HOUR, LEAP, QUEUE, changes
from whole_workers import READY, SUSPENDED

from pgqrs import (
    InvalidStateError,
    WorkerExistsError,
    WorkerHasPendingMessagesError,
    WorkerNotFoundError,
)
from pgqrs.testing import move_clock

WHO = st.integers(0, 1)
LEAPS = st.sampled_from([1, 4, 5, 5])
"""Within the time that history is kept for, beyond that, and longer than anything is kept."""


class Upkeep(Stage):
    """Keeps the queue and its workers, as who is on call for it does."""

    @precondition(lambda self: self.model.waiting)
    @rule(who=WHO, size=st.sampled_from([1, 2, 100, 100]), vt=st.none() | st.just(2 * HOUR))
    def lease(self, who: int, size: int, vt: int | None) -> None:
        found = self.consumers[who].dequeue_batch(size, vt)
        bury_now(self.consumers[who])
        self.leased(who, size, vt, found)

    @precondition(lambda self: self.leases or self.model.archived)
    @rule(leaps=LEAPS, beating=st.sets(WHO))
    def let_time_pass(self, leaps: int, beating: set[int]) -> None:
        """Let delays and leases end, and maybe what is kept be over; some workers are silent."""
        move_clock(self.admin, dt.timedelta(hours=LEAP * leaps))
        self.model.leap(LEAP * leaps)
        self.producer.heartbeat()
        for who in beating:
            self.consumers[who].heartbeat()
            self.model.staff.beat(self.holders[who])

    @precondition(lambda self: self.model.now)
    @rule()
    def maintain(self) -> None:
        done = dataclasses.asdict(self.admin.maintain())
        assert done == {"vacuumed": True, **self.model.maintain()}

    @precondition(lambda self: self.model.waiting)
    @rule(leaps=LEAPS, beating=st.sets(WHO), first=st.sampled_from([None, None, "renew", "pause"]))
    def let_time_pass_and_maintain(self, leaps: int, beating: set[int], first: str | None) -> None:
        """Do a round of maintenance before anybody takes what came due."""
        self.let_time_pass(leaps, beating)
        if first == "pause":
            self.model.paused = self.admin.pause_queue(self.name).paused
        if first == "renew":
            self.renew()
        self.maintain()

    def renew(self) -> None:
        """Make due now what nobody ever leased: it is to be kept from now on."""
        own = (m for m in self.model.waiting.values() if m.origin is None)
        ids = [message.id for message in own if not message.read_ct]
        assert self.admin.release_messages(ids) == [True] * len(ids)
        for each in ids:
            self.model.give_back(each, due=True, counts=True)

    @rule(options=changes(QUEUE))
    def update_queue(self, options: dict[str, Any]) -> None:
        """Change what holds for messages that say nothing themselves, those there are too."""
        given, options = self.of_queue(options)
        found = self.admin.update_queue(self.name, **options)
        self.model.given |= given
        wanted = {**dict.fromkeys(QUEUE), "archive_mode": "full", **self.model.given}
        wanted["dead_letter"] = self.letters if wanted["dead_letter"] else None
        values = {name: getattr(found, name) for name in QUEUE}
        lasting = ((name, v) for name, v in values.items() if isinstance(v, dt.timedelta))
        assert values | {name: value.total_seconds() for name, value in lasting} == wanted

    @precondition(lambda self: len(self.leases) % 2)
    @rule(who=WHO)
    def suspend_or_resume(self, who: int) -> None:
        """A suspended worker keeps what it holds and leases nothing, a resumed one again."""
        worker, status = self.consumers[who], self.statuses()[who]
        act = worker.resume if status == SUSPENDED else worker.suspend
        if status in {READY, SUSPENDED}:
            act()
            there = self.model.staff.workers[self.holders[who]]
            there.status = READY if status == SUSPENDED else SUSPENDED
            assert worker.status() == there.status
            self.lease(who, 100, None)
        else:
            with pytest.raises(InvalidStateError if status else WorkerNotFoundError):
                act()

    @precondition(lambda self: any(m.leased for m in self.model.waiting.values()))
    @rule(who=WHO, release=st.booleans())
    def suspend_and_shut_down(self, who: int, *, release: bool) -> None:
        if self.statuses()[who] == READY:
            self.suspend_or_resume(who)
        self.shut_down(who, release=release)

    @precondition(lambda self: SUSPENDED in self.statuses() or len(self.leases) % 4 == 1)
    @rule(who=WHO, release=st.booleans())
    def shut_down(self, who: int, *, release: bool) -> None:
        """Only what is suspended stops, when it holds nothing or gives that back."""
        me, worker, status = self.holders[who], self.consumers[who], self.statuses()[who]
        held = [m.id for m in self.model.waiting.values() if m.leased and m.holder == me]
        refusal = {READY: InvalidStateError, None: WorkerNotFoundError}.get(status)
        if status == SUSPENDED and held and not release:
            refusal = WorkerHasPendingMessagesError
        if refusal is not None:
            with pytest.raises(refusal) as caught:
                worker.shutdown(release=release)
            assert caught.type is refusal
            assert refusal is not WorkerHasPendingMessagesError or caught.value.count == len(held)
            return
        worker.shutdown(release=release)
        for each in held if status == SUSPENDED else []:
            self.model.give_back(each, due=True, counts=False)
        self.model.staff.stop(me)
        self.lease(who, 100, None)

    @precondition(lambda self: self.statuses() != [READY, READY] or len(self.leases) % 5 == 4)
    @rule(who=WHO, closes=st.booleans())
    def start_anew(self, who: int, *, closes: bool) -> None:
        """End a worker in the midst of its work, and have another one in its place."""
        old, me, staff = self.consumers[who], self.holders[who], self.model.staff
        if closes:
            old.close(release=False)
            staff.stop(me)
        new = self.consumer(who)
        if staff.is_alive(me):
            with pytest.raises(WorkerExistsError):
                new.heartbeat()
            new.close()
            return
        self.take_on(new)
        staff.stop(me)
        old.close(release=False)
        self.consumers[who], self.holders[who] = self.consumers.pop(), self.holders.pop()

    def statuses(self) -> list[str | None]:
        return [self.model.staff.status(each) for each in self.holders]
