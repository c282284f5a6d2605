"""The one thread of a worker process that talks to the server.

It has one connection, on which it listens, leases, settles and extends. Handlers run elsewhere and
hand their results over. When the connection is lost it is made again, and what was to be settled
is settled then: the fence decides what is still ours.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, Engine

from pgqrs.caretaker import Caretaker
from pgqrs.config import Config
from pgqrs.ear import Ear, Waker
from pgqrs.errors import (
    DatabaseError,
    OutcomeUnknownError,
    PgqrsError,
    QueryTimeoutError,
    QueueNotFoundError,
    UnavailableError,
)
from pgqrs.limit import Limit
from pgqrs.listening import Listener
from pgqrs.operations import settle
from pgqrs.operations.settle import Finish
from pgqrs.patience import backoff
from pgqrs.runner.lane import Lane
from pgqrs.runner.settling import Report, Settler
from pgqrs.runner.telling import tell_overrun
from pgqrs.statements.wake import channel_of
from pgqrs.translation import translated
from pgqrs.types import WorkerStatus

__all__ = ["Loop"]

_log: Final = logging.getLogger("pgqrs.run")
_SETTLE_SOON: Final = 0.002  # seconds, to look whether results have waited long enough
_READ_ONLY: Final = "25006"
_GRACE: Final = 1.0  # seconds for cancelled handlers to end
_LONGEST_WAIT: Final = 5.0  # seconds, however far apart heartbeats are


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
        self._dozes_for = 0.0  # seconds, while waiting
        self._away = False
        self._pauses = backoff()
        self._limit = Limit(config.query_timeout_seconds * 1.5)
        channels = [channel_of(lane.steps.schema, lane.steps.queue) for lane in self.lanes]
        self._listener = Listener(connect, config, channels, self._limit, _tell)
        first = self.lanes[0].steps
        self._settler = Settler(self.report)
        self._caretaker = Caretaker(connect, lambda on: first.register(on)[1], config)

    def stop(self) -> None:
        """Lease no more and end when handlers have; called again, end at once."""
        if self._stop_at is not None:
            self._now.set()
        else:
            self._stop_at = time.monotonic() + self._config.shutdown_timeout_seconds
            for lane in self.lanes:
                lane.slots.hold_back()
        self._waker.wake()

    def has_ended(self, *, idle: bool) -> None:
        """Note that a handler ended, in its thread; `idle` says that it has nothing more to do.

        One that looks again in a moment is not woken for each result, but for an idle handler.
        """
        if self._dozes_for > (0.0 if idle else _SETTLE_SOON):
            self._waker.wake()

    def run(self) -> Report:
        """Work until stopped. Raises DatabaseError for what no new connection can mend."""
        engine = self._connect()
        self._caretaker.start()
        try:
            self._work_until_stopped(engine)
        except PgqrsError:
            if self._stop_at is None:  # a second stop would end it at once
                self.stop()
            self._wind_up(engine)
            raise
        finally:
            self._caretaker.close()
            self._limit.close()
            engine.dispose()
            self._close()
        return self.report

    def _work_until_stopped(self, engine: Engine) -> None:
        while not self._finished():
            try:
                with translated(self._config.schema_, changes=True), engine.connect() as one:
                    self._work(one)
            except (UnavailableError, OutcomeUnknownError, QueryTimeoutError) as error:
                self._rest(self._missed(error))
            except DatabaseError as error:
                if error.sqlstate != _READ_ONLY:  # a standby, until it is promoted
                    raise
                self._rest(self._missed(error))

    def _wind_up(self, engine: Engine) -> None:
        """Let handlers end, and settle what can be: the error that ends the run is of one lane."""
        while not self._finished():
            for lane in self.lanes:
                try:
                    with (
                        translated(self._config.schema_),
                        engine.connect() as one,
                        self._limit.over(one),
                    ):
                        self._turn(one, lane)
                except QueueNotFoundError:
                    lane.abandon()
                except PgqrsError:
                    self._now.wait(0.2)
            self._now.wait(0.02)

    def _work(self, connection: Connection) -> None:
        with self._listener.ear(connection, self._waker) as ear:
            for lane in self.lanes:
                lane.patience.woken()  # what came before we listened
            while not self._finished() and not self._listener.wants_another:
                for lane in self.lanes:
                    with self._limit.over(connection):
                        self._turn_or_shut(connection, lane)
                self._reached()
                self._listener.check_if_due(ear)
                rung = self._doze(ear)
                for lane in self.lanes:
                    if channel_of(lane.steps.schema, lane.steps.queue) in rung:
                        lane.patience.woken()
            if self._finished():
                for lane in self.lanes:
                    with self._limit.over(connection):
                        self._flush(connection, lane)

    def _doze(self, ear: Ear) -> set[str]:
        # Said before it is looked at: what ends in between wakes, or is seen.
        self._dozes_for = _LONGEST_WAIT
        self._dozes_for = self._idle_for()
        try:
            return ear.wait(self._dozes_for)
        finally:
            self._dozes_for = 0.0

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

    def _turn_or_shut(self, connection: Connection, lane: Lane) -> None:
        """Take a turn; the queue of one lane of several may be deleted meanwhile."""
        try:
            with translated(self._config.schema_, changes=True):
                self._turn(connection, lane)
        except QueueNotFoundError:
            last = lane.is_open and not any(o.is_open for o in self.lanes if o is not lane)
            if last or not lane.has_leased:
                raise
            _log.exception("queue %s is gone, and is worked no more", lane.steps.queue)
            lane.abandon()

    def _turn(self, connection: Connection, lane: Lane) -> None:
        stopping = self._stop_at is not None
        lane.collect(stopping=stopping)
        self._mark_overdue(lane)
        if stopping:
            lane.give_up_backlog()
        else:
            lane.ease()
        lane.dispatch()
        leases = not stopping and lane.leases_now() and lane.patience.remaining() == 0
        finishes = lane.finishes() if leases else []
        if (leases or stopping or lane.settles_now()) and not finishes:
            self._settler.settle(connection, lane)
        self._extend(connection, lane)
        if leases:
            self._lease(connection, lane, finishes)
            lane.dispatch()
        lane.steps.beat_if_due(connection)

    def _lease(self, connection: Connection, lane: Lane, finishes: Sequence[Finish]) -> None:
        wanted, asked_at = lane.wanted(), time.monotonic()
        lease = None
        if finishes and len(finishes) == len(lane.outbox):  # one commit instead of two
            lease = self._settler.settle_and_lease(connection, lane, finishes, wanted)
        if lease is None:
            self._settler.settle(connection, lane)
            lease = lane.steps.lease_for_run(connection, wanted)
        most = min(wanted, self._config.max_batch_size)
        lane.patience.found(len(lease.messages), most, lease.due_in)
        lane.took(lease.messages, asked_at)
        self._caretaker.leased(len(lease.messages))
        if lease.worker_status is WorkerStatus.STOPPED:
            self._was_stopped(connection, lane)

    def _was_stopped(self, connection: Connection, lane: Lane) -> None:
        if lane.steps.is_taken_for_dead(connection):
            _log.warning(
                "this worker was taken for dead on queue %s: it is another from now on",
                lane.steps.queue,
            )
            lane.steps.registration.forget()
            lane.patience.woken()
        else:
            _log.info("this worker was stopped on queue %s, and leases no more", lane.steps.queue)
            self._shut(lane)

    def _shut(self, lane: Lane) -> None:
        lane.is_open = False
        if self._stop_at is None and not any(each.is_open for each in self.lanes):
            self.stop()

    def _extend(self, connection: Connection, lane: Lane) -> None:
        leases = lane.to_extend()
        if not leases:
            return
        asked_at = time.monotonic()
        _, worker_id = lane.steps.register(connection)
        held = settle.extend_many(connection, lane.steps.schema, worker_id, leases)
        lost = lane.extended(leases, held, asked_at)
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
        if any(lane.has_results() for lane in self.lanes):
            return 0.0
        if self._stop_at is not None:
            return 0.05 if any(lane.is_busy() for lane in self.lanes) else 0.0
        waits = [min(_LONGEST_WAIT, self._config.heartbeat_interval_seconds)]
        for lane in self.lanes:
            waits += [lane.next_extension(), lane.next_overdue(), lane.next_easing()]
            if lane.outbox:
                waits.append(_SETTLE_SOON)
            if lane.leases_now():
                waits.append(lane.patience.remaining())
        return min(waits)

    def _flush(self, connection: Connection, lane: Lane) -> None:
        lane.collect(stopping=True)
        lane.give_up_backlog()
        self._settler.settle(connection, lane)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._finished():
            for lane in self.lanes:
                lane.collect(stopping=self._stop_at is not None)
            self._now.wait(min(0.05, seconds))

    def _close(self) -> None:
        for lane in self.lanes:
            lane.collect(stopping=True)
            self.report.still_running += lane.running_ids()
            lane.slots.close()
        self._waker.close()


def _tell(sentence: str, good: bool) -> None:  # noqa: FBT001 - how a Listener tells
    _log.log(logging.INFO if good else logging.WARNING, "%s", sentence)
