"""A queue and its model side by side: how they begin, and how they are compared."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, ClassVar

from history.samples import LOOK as SAMPLE
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from sqlalchemy import text
from whole_model import FIFO, STANDARD, Fence, Message, Queue
from whole_terms import LETTERS, MESSAGE, QUEUE, some

from pgqrs import (
    Admin,
    Config,
    ConflictError,
    Consumer,
    Producer,
    QueueMessage,
)

RARE = 8
"""What is chosen from this on is not what is most likely to be of interest."""
OPTIONS = some(MESSAGE)
_FOR_LONG = (
    *("max_attempts", "retry_delay", "retry_delay_max", "retry_backoff"),
    *("expire_in", "retain_for", "dead_letter"),
)
_numbers = itertools.count()

WAITING = text(
    "SELECT id, queue_id = :letters, state = 2, state = 0 OR vt <= statement_timestamp(),"
    " state = 2 AND vt > statement_timestamp(), priority, read_ct, returned_ct, consumer_worker_id,"
    " max_attempts, message_id::text, headers->'pgqrs'->'dead_letter_of'->'id'"
    " FROM pgqrs.pgqrs_messages WHERE queue_id IN (:queue, :letters)"
)
FINISHED = text(
    "SELECT id, status, read_ct, returned_ct, payload IS NOT NULL FROM pgqrs.pgqrs_archive"
    " WHERE queue_id = :queue"
)
IN_LINE = text("SELECT id FROM pgqrs.pgqrs_messages WHERE queue_id = :queue AND state = 0")
EMPTIED = {
    "queues": "id",
    **dict.fromkeys(["workers", "keys", "archive", "messages"], "queue_id"),
}
"""The tables, with the column that is of a queue; the last is emptied first."""
WORKERS = text(
    "SELECT id, status FROM pgqrs.pgqrs_workers WHERE queue_id = :queue AND role = 'consumer'"
)


class Stage(RuleBasedStateMachine):
    """One queue with its model, which are compared after each step.

    Two consumers are workers of their own. What dies may leave a copy in a dead letter queue.
    """

    config: ClassVar[Config]
    admin: ClassVar[Admin]
    policy: ClassVar[str]

    @initialize(options=some(QUEUE), first=st.lists(OPTIONS, min_size=2, max_size=6))
    def begin(self, options: dict[str, Any], first: list[dict[str, Any]]) -> None:
        self.name = f"q{next(_numbers)}"
        self.letters = f"{self.name}_letters"
        letters = self.admin.create_queue(self.letters)
        given, options = self.of_queue(options)
        queue = self.admin.create_queue(self.name, policy=self.policy, **options)
        self.ids = {"queue": queue.id, "letters": letters.id}
        self.model = Queue(self.policy, given)
        self.producer = Producer(self.config, self.name)
        self.consumers: list[Consumer] = []
        self.holders: list[int] = []
        for who in range(2):
            self.take_on(self.consumer(who))
        self.connection = self.admin.pool.connect()
        self.leases: list[tuple[int, QueueMessage]] = []
        self.sent: set[int] = set()
        self.places = 0
        for each in first:
            self.send(each, skip=True)

    def teardown(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.connection.close)
            for table, column in EMPTIED.items():  # for what is counted is of all queues
                own = text(f"DELETE FROM pgqrs.pgqrs_{table} WHERE {column} IN (:queue, :letters)")
                stack.callback(self.connection.execute, own, self.ids)
            for each in (self.producer, *self.consumers):
                stack.callback(each.close)

    def consumer(self, who: int) -> Consumer:
        return Consumer(self.config, self.name, "here", who + 1)

    def take_on(self, consumer: Consumer) -> None:
        """Have one consumer more, which is a worker of its own."""
        consumer.heartbeat()
        self.consumers.append(consumer)
        self.holders.append(consumer.worker_id or 0)
        self.model.staff.register(self.holders[-1])

    def of_queue(self, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Give the options that are set, as the model is told of them and as a queue takes them."""
        given = {name: value for name, value in options.items() if value is not None}
        letters = {"dead_letter": self.letters} if given.get("dead_letter") else {}
        return given, given | letters

    def given(self, options: dict[str, Any]) -> tuple[dict[str, Any], Message]:
        """Give the options as this queue takes them, and the message that the model is told of."""
        options = {name: value for name, value in options.items() if value is not None}
        policy = self.model.policy
        key, window = options.pop("key", None), "singleton_for" in options
        if key and (window or policy not in {STANDARD, FIFO}):
            options["singleton_key"] = key
        if key and policy == FIFO:
            options["ordering_key"] = key
        lasting = {name: options[name] for name in _FOR_LONG if name in options}
        if options.get("dead_letter") == LETTERS:
            options["dead_letter"] = self.letters
        wait = options["deliver_at"] if "deliver_at" in options else options.get("delay", 0)
        if "deliver_at" in options:
            options.pop("delay", None)
            options["deliver_at"] = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=wait)
        same = {STANDARD: None, FIFO: key}.get(policy, key or "")
        message = Message(
            0,
            options.get("priority", 0),
            lasting,
            same,
            (key or "") if window else None,
            options.get("message_id"),
            due=wait <= 0,
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
        at = sent.enqueued_at + dt.timedelta(seconds=options.get("delay", 0))
        assert abs(sent.vt - options.get("deliver_at", at)) < dt.timedelta(minutes=1)
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
        may = self.model.staff.may_lease(self.holders[who])
        leasable = [m for m in self.model.leasable() if may and m.id not in spared]
        best = self.model.best(leasable)
        self.ordered([message.id for message in found], leasable, best, size)
        # What dies holds back the next of its key to the end.
        self.bury(found, size, self.model.spent() - spared if may else set())
        if may and not self.model.paused:
            line = set(self.connection.scalars(IN_LINE, self.ids))
            self.model.pass_over(line)
        self.known_as(who)
        fences = self.model.lease([message.id for message in found], self.holders[who])
        assert [Fence(m.id, m.read_ct, m.consumer_worker_id) for m in found] == fences
        for message in found:
            lasts = self.model.lasts(self.model.waiting[message.id], vt)
            assert abs((message.vt - message.dequeued_at).total_seconds() - lasts) < 60
        self.leases += [(who, message) for message in found]

    def known_as(self, who: int) -> None:
        """Note under which id a consumer leases: a new one where its row is gone."""
        if self.model.staff.status(self.holders[who]) is None:
            self.holders[who] = self.consumers[who].worker_id or 0
            self.model.staff.register(self.holders[who])
        assert self.consumers[who].worker_id == self.holders[who]

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

    def bury(self, found: list[QueueMessage], size: int, spent: AbstractSet[int]) -> None:
        dead = set(self.archive()) - set(self.model.archived)
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
                *(m.origin is not None, m.leased, m.due, m.is_held, m.priority),
                *(m.read_ct, m.returned, m.holder),
                *((None, None) if m.origin else (m.said.get("max_attempts"), m.message_id)),
            )
            for m in self.model.waiting.values()
        }
        past = self.model.archived.items()
        assert self.archive() == {
            each: (p.status, p.message.read_ct, p.message.returned, p.whole) for each, p in past
        }
        workers = dict(self.connection.execute(WORKERS, self.ids).all())
        staff = self.model.staff.workers.items()
        assert workers == {each: worker.status for each, worker in staff}
        twice, crowded = self.connection.exec_driver_sql(SAMPLE).one()[1:3]
        assert not twice
        assert not crowded

    def archive(self) -> dict[int, tuple[Any, ...]]:
        found = self.connection.execute(FINISHED, {"queue": self.ids["queue"]})
        return {row[0]: tuple(row[1:]) for row in found}
