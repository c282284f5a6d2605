"""A queue and its model side by side: how they begin, and how they are compared."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, ClassVar

from history.samples import LOOK as SAMPLE
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from sqlalchemy import text
from whole_model import FIFO, QUEUE_LIMIT, STANDARD, Fence, Message, Queue

from pgqrs import (
    Admin,
    ArchiveMode,
    Config,
    ConflictError,
    Consumer,
    Producer,
    QueueMessage,
)

HOUR = 3600
LETTERS = "letters"
RARE = 8
"""What is chosen from this on is not what is most likely to be of interest."""
CHOICES: dict[str, list[Any]] = {
    "priority": [None, -1, 1, 2],
    "delay": [None, None, None, HOUR],
    "max_attempts": [None, None, 1, 2],
    "retry_delay": [None, 0],
    "expire_in": [None, 3 * HOUR],
    "retain_for": [None, 24 * HOUR],
    "dead_letter": [None, "", LETTERS, LETTERS],
    "headers": [None, {"trace": "a"}],
    "singleton_for": [None, None, None, None, None, HOUR],
    "key": [None, "a", "b", "c", "d", "e"],
}
OPTIONS = st.fixed_dictionaries({name: st.sampled_from(them) for name, them in CHOICES.items()})
_numbers = itertools.count()

WAITING = text(
    "SELECT id, queue_id = :letters, state = 0 OR vt <= statement_timestamp(),"
    " state = 2 AND vt > statement_timestamp(), priority, read_ct, returned_ct, consumer_worker_id,"
    " max_attempts, message_id::text, headers->'pgqrs'->'dead_letter_of'->'id'"
    " FROM pgqrs.pgqrs_messages WHERE queue_id IN (:queue, :letters)"
)
FINISHED = text(
    "SELECT id, status, read_ct, returned_ct, payload IS NOT NULL FROM pgqrs.pgqrs_archive"
    " WHERE queue_id = :queue"
)


class Stage(RuleBasedStateMachine):
    """One queue with its model, which are compared after each step.

    Two consumers are workers of their own. What dies may leave a copy in a dead letter queue.
    """

    config: ClassVar[Config]
    admin: ClassVar[Admin]
    policy: ClassVar[str]

    @initialize(
        mode=st.sampled_from(ArchiveMode),
        first=st.lists(OPTIONS, min_size=2, max_size=6),
    )
    def begin(self, mode: ArchiveMode, first: list[dict[str, Any]]) -> None:
        self.name = f"q{next(_numbers)}"
        self.letters = f"{self.name}_letters"
        options: dict[str, Any] = {"visibility_timeout": HOUR, "max_attempts": QUEUE_LIMIT}
        options |= {"retry_delay": HOUR, "retry_backoff": False, "archive_mode": mode}
        queue = self.admin.create_queue(self.name, policy=self.policy, **options)
        letters = self.admin.create_queue(self.letters)
        self.ids = {"queue": queue.id, "letters": letters.id}
        self.producer = Producer(self.config, self.name)
        self.consumers = [Consumer(self.config, self.name, "here", port) for port in (1, 2)]
        for consumer in self.consumers:
            consumer.heartbeat()
        self.holders = [consumer.worker_id or 0 for consumer in self.consumers]
        self.connection = self.admin.pool.connect()
        self.model = Queue(self.policy, mode)
        self.leases: list[tuple[int, QueueMessage]] = []
        self.expiry: dict[int, int | None] = {}
        self.sent: set[int] = set()
        self.places = 0
        for options in first:
            self.send(options, skip=True)

    def teardown(self) -> None:
        with contextlib.ExitStack() as stack:
            for each in (self.connection, self.producer, *self.consumers):
                stack.callback(each.close)

    def given(self, options: dict[str, Any]) -> tuple[dict[str, Any], Message]:
        """Give the options as this queue takes them, and the message that the model is told of."""
        options = {name: value for name, value in options.items() if value is not None}
        policy = self.model.policy
        key, window = options.pop("key", None), "singleton_for" in options
        if key and (window or policy not in {STANDARD, FIFO}):
            options["singleton_key"] = key
        if key and policy == FIFO:
            options["ordering_key"] = key
        letters = options.get("dead_letter") == LETTERS
        if letters:
            options["dead_letter"] = self.letters
        if "retry_delay" in options:
            options["retry_backoff"] = False
        same = {STANDARD: None, FIFO: key}.get(policy, key or "")
        message = Message(
            0,
            options.get("priority", 0),
            options.get("max_attempts"),
            same,
            (key or "") if window else None,
            options.get("message_id"),
            letters=letters,
            retry_at_once="retry_delay" in options,
            due="delay" not in options,
        )
        return options, message

    def send(self, options: dict[str, Any], *, skip: bool) -> None:
        """Enqueue a message, and compare whether it got in with whether it may."""
        options, message = self.given(options)
        wanted = self.model.kept_out(message)
        how = "skip" if skip else "raise"
        try:
            sent = self.producer.enqueue({"n": 1}, on_conflict=how, **options)
        except ConflictError:
            assert not skip
            sent = None
        assert wanted in (None, sent is None)
        if sent is not None:
            self.told(sent, message, options)

    def told(self, sent: QueueMessage, message: Message, options: dict[str, Any]) -> None:
        """Tell the model of a message that got in, and look at what came back."""
        given = (options.get("priority", 0), options.get("max_attempts"), options.get("headers"))
        assert (sent.priority, sent.max_attempts, sent.headers) == given
        assert str(sent.message_id or "") == options.get("message_id", "")
        assert sent.payload == {"n": 1}
        self.expiry[sent.id] = options.get("expire_in")
        self.model.enqueue(replace(message, id=sent.id))
        self.sent.add(sent.id)

    def leased(
        self,
        who: int,
        size: int,
        vt: int | None,
        found: list[QueueMessage],
        spared: AbstractSet[int] = frozenset(),
    ) -> None:
        """Compare a lease with what the model may give, and the ends of leases with the options."""
        leasable = [m for m in self.model.leasable() if m.id not in spared]
        best = self.model.best(leasable)
        self.ordered([message.id for message in found], leasable, best, size)
        self.bury(found, size, spared)  # what dies holds back the next of its key to the end
        fences = self.model.lease([message.id for message in found], self.holders[who])
        assert [Fence(m.id, m.read_ct, m.consumer_worker_id) for m in found] == fences
        for message in found:
            lasts = self.expiry.get(message.id) or vt or HOUR
            assert abs((message.vt - message.dequeued_at).total_seconds() - lasts) < 60
        self.leases += [(who, message) for message in found]

    def ordered(
        self, ids: list[int], leasable: list[Message], best: list[Message], size: int
    ) -> None:
        """Compare what was leased, and in which order, with what may be."""
        order = [message.id for message in leasable]
        assert [each for each in order if each in ids] == ids, "the most urgent first"
        if len(leasable) <= size:
            wanted = [message.id for message in best]
            assert ids == wanted, {each: self.model.waiting[each] for each in {*wanted} ^ {*ids}}
        assert len(ids) <= min(size, len(best))
        if self.model.takes_turns:
            keys = [self.model.waiting[each].key for each in ids]
            alone = [key for key in keys if key is not None]
            assert len(alone) == len(set(alone)), "one of a key"
        else:
            assert len(ids) == min(size, len(best))

    def bury(self, found: list[QueueMessage], size: int, spared: AbstractSet[int]) -> None:
        dead = set(self.archive()) - set(self.model.archived)
        spent = self.model.spent() - spared
        assert dead <= spent
        if self.model.paused:
            assert not dead
        elif len(found) < size:
            assert dead == spent, "what is exhausted dies by the ordinary lease"
        for each in sorted(dead):
            self.model.die(each)

    def chosen(self, which: int, *, other: bool = False) -> tuple[int, QueueMessage, Fence, bool]:
        """Give a lease there is, or was, who acts on it, and whether it holds."""
        held = [one for one in self.leases if self.model.holds(self.fence(*one))]
        leases = held if held and which < RARE else self.leases
        who, message = leases[-1 - which % len(leases)]
        who = 1 - who if other else who
        fence = self.fence(who, message)
        return who, message, fence, self.model.holds(fence)

    def fence(self, who: int, message: QueueMessage) -> Fence:
        return Fence(message.id, message.read_ct, self.holders[who])

    def acknowledged(self, who: int, message: QueueMessage, act: str) -> bool:
        fence = self.fence(who, message)
        held = self.model.holds(fence)
        if held and act == "release":
            self.model.give_back(fence.id, due=True, counts=False)
        elif held:
            self.model.finish(fence.id, "completed" if act == "archive_batch" else None)
        return held

    def some(self, many: list[int], among: Iterable[int]) -> list[int]:
        """Give ids, mostly `among` these; any others may be anywhere, but are no dead letters."""
        letters = {m.id for m in self.model.waiting.values() if m.origin is not None}
        known = sorted({*self.model.waiting, *self.model.archived, 0} - letters)
        likely = sorted(set(among) - letters) or known
        pools = [likely if which < RARE else known for which in many]
        return sorted({pool[-1 - w % len(pool)] for pool, w in zip(pools, many, strict=True)})

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        rows = {row[0]: tuple(row[1:]) for row in self.connection.execute(WAITING, self.ids)}
        for each in sorted(rows.keys() - self.model.waiting.keys()):
            self.model.receive(each, rows[each][-1])
        assert not self.model.letters, "what died has left a copy"
        assert {each: row[:-1] for each, row in rows.items()} == {
            m.id: (
                m.origin is not None,
                *(m.due, m.is_held, m.priority, m.read_ct, m.returned, m.holder),
                *((m.limit, m.message_id) if m.origin is None else (None, None)),
            )
            for m in self.model.waiting.values()
        }
        past = self.model.archived.items()
        assert self.archive() == {
            each: (p.status, p.message.read_ct, p.message.returned, p.whole) for each, p in past
        }
        twice, crowded = self.connection.exec_driver_sql(SAMPLE).one()[1:3]
        assert not twice
        assert not crowded

    def archive(self) -> dict[int, tuple[Any, ...]]:
        found = self.connection.execute(FINISHED, {"queue": self.ids["queue"]})
        return {row[0]: tuple(row[1:]) for row in found}
