"""The one thread of a worker process that talks to the server.

It has one connection, on which it listens, leases, settles and extends. Handlers run elsewhere and
hand their results over. When the connection is lost it is made again, and what was to be settled
is settled then: the fence decides what is still ours.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Engine

from pgqrs.caretaker import Caretaker
from pgqrs.config import Config
from pgqrs.ear import Waker
from pgqrs.errors import OutcomeUnknownError, PgqrsError, QueryTimeoutError, UnavailableError
from pgqrs.limit import Limit
from pgqrs.listening import Listener
from pgqrs.operations import acknowledge, settle
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.settle import Failure, Finish
from pgqrs.patience import backoff
from pgqrs.runner.lane import AT_ONCE, Lane
from pgqrs.runner.task import Return, Settlement
from pgqrs.runner.telling import tell_overrun
from pgqrs.statements.wake import channel_of
from pgqrs.translation import translated

__all__ = ["Loop", "Report"]

_log: Final = logging.getLogger("pgqrs.run")
_SETTLE_SOON: Final = 0.002  # seconds, to look whether results have waited long enough
_GRACE: Final = 1.0  # seconds for cancelled handlers to end
_LONGEST_WAIT: Final = 5.0  # seconds, however far apart heartbeats are


@dataclass(slots=True)
class Report:
    """What a run came to: messages by how they ended, and the ids that were still in hand."""

    completed: int = 0
    failed: int = 0
    dead: int = 0
    returned: int = 0
    lost: int = 0
    still_running: list[int] = field(default_factory=list)


class Loop:
    """Works lanes until told to stop."""

    def __init__(
        self, lanes: Sequence[Lane], connect: Callable[[], Engine], config: Config
    ) -> None:
        self.lanes = list(lanes)
        self.report = Report()
        self._connect = connect
        self._config = config
        self._waker = Waker()
        self._stop_at: float | None = None
        self._now = threading.Event()
        self._away = False
        self._pauses = backoff()
        self._limit = Limit(config.query_timeout_seconds * 1.5)
        channels = [channel_of(lane.steps.schema, lane.steps.queue) for lane in self.lanes]
        self._listener = Listener(connect, config, channels, self._limit, _tell)
        first = self.lanes[0].steps
        self._caretaker = Caretaker(connect, lambda on: first.register(on)[1], config)

    def stop(self) -> None:
        """Lease no more and end when handlers have; called again, end at once."""
        if self._stop_at is not None:
            self._now.set()
        else:
            self._stop_at = time.monotonic() + self._config.shutdown_timeout_seconds
        self._waker.wake()

    def wake(self) -> None:
        """Look at what handlers handed over."""
        self._waker.wake()

    def run(self) -> Report:
        """Work until stopped. Raises DatabaseError for what no new connection can mend."""
        engine = self._connect()
        self._caretaker.start()
        try:
            while not self._finished():
                try:
                    with translated(self._config.schema_, changes=True), engine.connect() as one:
                        self._work(one)
                except (UnavailableError, OutcomeUnknownError, QueryTimeoutError) as error:
                    self._rest(self._missed(error))
        finally:
            self._caretaker.close()
            self._limit.close()
            engine.dispose()
            self._close()
        return self.report

    def _work(self, connection: Connection) -> None:
        with self._listener.ear(connection, self._waker) as ear:
            for lane in self.lanes:
                lane.patience.woken()  # what came before we listened
            while not self._finished() and not self._listener.wants_another:
                with self._limit.over(connection):
                    self._turn(connection)
                self._reached()
                self._listener.check_if_due(ear)
                rung = ear.wait(self._idle_for())
                for lane in self.lanes:
                    if channel_of(lane.steps.schema, lane.steps.queue) in rung:
                        lane.patience.woken()
            if self._finished():
                with self._limit.over(connection):
                    self._flush(connection)

    def _missed(self, error: PgqrsError) -> float:
        """Note that the server is away; gives how long to rest."""
        if not self._away:
            _log.warning("the server is away, and will be tried again: %s", error)
        self._away = True
        return next(self._pauses)

    def _reached(self) -> None:
        """Note that a turn went well: only that ends an outage, a connection alone does not."""
        if self._away:
            _log.info("the server is back; work goes on")
            self._away, self._pauses = False, backoff()

    def _turn(self, connection: Connection) -> None:
        stopping = self._stop_at is not None
        for lane in self.lanes:
            lane.collect()
            self._mark_overdue(lane)
            if stopping:
                lane.give_up_backlog()
            lane.dispatch()
            leases = not stopping and lane.leases_now() and lane.patience.remaining() == 0
            together = leases and bool(lane.finishes())
            if (leases or stopping or lane.settles_now()) and not together:
                self._settle(connection, lane)
            self._extend(connection, lane)
            if leases:
                self._lease(connection, lane)
                lane.dispatch()
            lane.steps.beat_if_due(connection)

    def _lease(self, connection: Connection, lane: Lane) -> None:
        wanted, finishes, asked_at = lane.wanted(), lane.finishes(), time.monotonic()
        if finishes:  # one commit instead of two
            held, lease = lane.steps.finish_for_run(connection, finishes, wanted)
            done = self._finished_some(connection, lane, finishes, held)
            self._settled(lane, finishes, len(finishes) - done)
        else:
            lease = lane.steps.lease_for_run(connection, wanted)
        most = min(wanted, self._config.max_batch_size)
        lane.patience.found(len(lease.messages), most, lease.due_in)
        lane.took(lease.messages, asked_at)
        self._caretaker.leased(len(lease.messages))

    def _settle(self, connection: Connection, lane: Lane) -> None:
        while lane.outbox:
            batch = [lane.outbox[i] for i in range(min(len(lane.outbox), AT_ONCE))]
            done = self._send(connection, lane, batch)
            self._settled(lane, batch, len(batch) - done)

    def _settled(self, lane: Lane, batch: Sequence[Settlement], lost: int) -> None:
        for _ in batch:  # only now: without a reply they are sent again
            lane.outbox.popleft()
        lane.settled(batch)
        if lost:
            self.report.lost += lost
            extra = {"queue": lane.steps.queue}
            sentence = "%d leases on queue %s were lost meanwhile"
            _log.warning(sentence, lost, lane.steps.queue, extra=extra)

    def _finished_some(
        self, connection: Connection, lane: Lane, finishes: Sequence[Finish], held: int
    ) -> int:
        """Count what was finished: what was not held may have been, before a reply was lost."""
        if held < len(finishes):
            finishes = lane.steps.finished_ones(connection, finishes)
        self.report.completed += sum(each.status == "completed" for each in finishes)
        self.report.dead += sum(each.status == "dead" for each in finishes)
        return len(finishes)

    def _send(self, connection: Connection, lane: Lane, batch: list[Settlement]) -> int:
        finishes = [each for each in batch if isinstance(each, Finish)]
        failures = [each for each in batch if isinstance(each, Failure)]
        returned = [each for each in batch if isinstance(each, Return)]
        schema, holder = lane.steps.schema, lane.steps.register(connection)
        done = 0
        if finishes:
            held = len(settle.finish_many(connection, schema, holder[1], finishes))
            done += self._finished_some(connection, lane, finishes, held)
        if failures:
            terms = lane.steps.retry_terms
            dead = settle.fail_many(connection, schema, holder, failures, terms)
            done += len(dead)
            self.report.failed += len(failures)
            self.report.dead += sum(dead.values())
        for wait, fences in _by_wait(returned):
            done += len(acknowledge.release(connection, schema, holder[1], fences, wait))
        self.report.returned += len(returned)
        return done

    def _extend(self, connection: Connection, lane: Lane) -> None:
        fences = lane.to_extend()
        if not fences:
            return
        by, asked_at = lane.lease_length(), time.monotonic()
        holder = lane.steps.register(connection)
        length = dt.timedelta(seconds=by)
        held = settle.extend_many(connection, lane.steps.schema, holder[1], fences, length)
        lost = lane.extended(fences, held, asked_at + by)
        if lost:
            extra = {"queue": lane.steps.queue}
            _log.warning("%d leases on queue %s ran out", len(lost), lane.steps.queue, extra=extra)

    def _mark_overdue(self, lane: Lane) -> None:
        for task in lane.overdue():
            task.timed_out = True
            task.refused = not lane.slots.cancel(task)
            if task.refused:
                tell_overrun(lane.steps.queue, task.messages)

    def _end_of_patience(self) -> None:
        """Cancel what can be cancelled, once the time for a graceful end is over."""
        for lane in self.lanes:
            for task in lane.running:
                if not task.cancelled:
                    task.cancelled = True
                    lane.slots.cancel(task)

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        late = time.monotonic() - self._stop_at
        if late >= 0:
            self._end_of_patience()
        busy = any(lane.is_busy() for lane in self.lanes)
        return not busy or self._now.is_set() or late >= _GRACE

    def _idle_for(self) -> float:
        if self._stop_at is not None:
            return 0.05
        waits = [min(_LONGEST_WAIT, self._config.heartbeat_interval_seconds)]
        for lane in self.lanes:
            if lane.has_results():
                return 0.0
            waits += [lane.next_extension(), lane.next_overdue()]
            if lane.outbox:
                waits.append(_SETTLE_SOON)
            if lane.leases_now():
                waits.append(lane.patience.remaining())
        return min(waits)

    def _flush(self, connection: Connection) -> None:
        for lane in self.lanes:
            lane.collect()
            lane.give_up_backlog()
            self._settle(connection, lane)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._finished():
            for lane in self.lanes:
                lane.collect()
            self._now.wait(min(0.05, seconds))

    def _close(self) -> None:
        for lane in self.lanes:
            lane.collect()
            self.report.still_running += lane.running_ids()
            lane.slots.close()
        self._waker.close()


def _tell(sentence: str, good: bool) -> None:  # noqa: FBT001 - how a Listener tells
    _log.log(logging.INFO if good else logging.WARNING, "%s", sentence)


def _by_wait(returned: list[Return]) -> Iterator[tuple[dt.timedelta, list[Fence]]]:
    for wait in sorted({each.wait for each in returned}):
        yield wait, [each.fence for each in returned if each.wait == wait]
