"""Settle what handlers ended, each kind by itself, and count what became of it.

What the server refuses to store is sent again alone, and becomes a failed attempt: it neither ends
the worker nor takes the others with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sqlalchemy import Connection

from pgqrs.operations import acknowledge, settle
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Lease, is_plain
from pgqrs.operations.settle import Failure, Finish
from pgqrs.runner.lane import Lane
from pgqrs.runner.task import Acknowledged, Return, Settlement, failure_of, unstorable
from pgqrs.translation import refusal

__all__ = ["Report", "Settler"]

S = TypeVar("S", Finish, Failure, Return)

_log: Final = logging.getLogger("pgqrs.run")


@dataclass(slots=True)
class Report:
    """What a run came to: messages by how they ended, and the ids that were still in hand."""

    completed: int = 0
    failed: int = 0
    dead: int = 0
    returned: int = 0
    lost: int = 0
    still_running: list[int] = field(default_factory=list)


class Settler:
    """Sends what waits in lanes; something is gone from there once the server has answered."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def settle(self, connection: Connection, lane: Lane) -> None:
        """Settle all that waits."""
        if not lane.outbox:
            return
        while known := lane.next_of(Acknowledged):
            self._note(connection, lane, known)
        while finishes := lane.next_of(Finish):
            self._each(lane, finishes, lambda some: self._finish(connection, lane, some))
        while failures := lane.next_of(Failure):
            self._each(lane, failures, lambda some: self._fail(connection, lane, some))
        while returned := lane.next_of(Return):
            wait = returned[0].wait
            alike = [each for each in returned if each.wait == wait]
            self._done(lane, alike, self._give_back(connection, lane, alike))

    def settle_and_lease(
        self, connection: Connection, lane: Lane, finishes: Sequence[Finish], wanted: int
    ) -> Lease | None:
        """Finish all that waits and lease, in one commit; None where something was refused."""
        again = lane.sending(finishes)
        try:
            held, lease = lane.steps.finish_for_run(connection, finishes, wanted)
        except Exception as error:
            if refusal(error) is None:
                raise
            lane.refused(finishes)
            return None
        self._finished(connection, lane, finishes, held, again)
        return lease

    def _note(self, connection: Connection, lane: Lane, known: Sequence[Acknowledged]) -> None:
        """Count what handlers' transactions ended; look for those of which that is not known."""
        unsure = [Finish(each.fence) for each in known if each.is_held is None]
        done = lane.steps.finished_before(connection, unsure) if unsure else set()
        for each in known:
            if each.is_held is None and each.fence not in done:
                error = each.error or RuntimeError("the commit failed")
                lane.replace(each, failure_of(each.message, error, lane.failed()))
        done |= {each.fence for each in known if each.is_held}
        self._report.completed += len(done)
        answered = [each for each in known if each.is_held is False or each.fence in done]
        self._done(lane, answered, done)

    def _each(self, lane: Lane, batch: Sequence[S], send: Callable[[Sequence[S]], None]) -> None:
        try:
            send(batch)
        except Exception as error:
            reason = refusal(error)
            if reason is None:
                raise
            lane.refused(batch)
            if len(batch) == 1:
                self._alone(lane, batch[0], reason)

    def _alone(self, lane: Lane, refused: Settlement, reason: str) -> None:
        """Do without something that was refused when it was sent alone."""
        number = refused.fence.message_id
        _log.warning("what is to be kept of message %d is refused: %s", number, reason)
        if isinstance(refused, Finish):
            lane.replace(refused, unstorable(refused, reason))
        else:  # its lease runs out
            self._done(lane, [refused], set())

    def _finish(self, connection: Connection, lane: Lane, finishes: Sequence[Finish]) -> None:
        again = lane.sending(finishes)
        _, worker_id = lane.steps.register(connection)
        held = settle.finish_many(connection, lane.steps.schema, worker_id, finishes)
        self._finished(connection, lane, finishes, held, again)

    def _finished(
        self,
        connection: Connection,
        lane: Lane,
        finishes: Sequence[Finish],
        held: set[Fence],
        again: set[Fence],
    ) -> None:
        if again := again - held:
            unanswered = [each for each in finishes if each.fence in again]
            held = held | lane.steps.finished_before(connection, unanswered)
        done = [each for each in finishes if each.fence in held]
        self._report.completed += sum(each.status == "completed" for each in done)
        self._report.dead += sum(each.status == "dead" for each in done)
        self._done(lane, finishes, held)

    def _fail(self, connection: Connection, lane: Lane, failures: Sequence[Failure]) -> None:
        steps, again = lane.steps, lane.sending(failures)
        holder = steps.register(connection)
        dead = settle.fail_many(connection, steps.schema, holder, failures, steps.retry_terms)
        steps.came_back()
        lane.patience.woken()  # a lease that finds nothing says when the next attempt is due
        self._report.failed += len(failures)
        self._report.dead += sum(dead.values())
        self._done(lane, failures, dead.keys() | again)

    def _give_back(
        self, connection: Connection, lane: Lane, returned: Sequence[Return]
    ) -> set[Fence]:
        again = lane.sending(returned)
        _, worker_id = lane.steps.register(connection)
        fences = [each.fence for each in returned]
        schema, wait = lane.steps.schema, returned[0].wait
        held = acknowledge.release(connection, schema, worker_id, fences, wait)
        lane.steps.came_back()
        self._report.returned += len(returned)
        return held | again

    def _done(self, lane: Lane, batch: Sequence[Settlement], held: set[Fence]) -> None:
        lane.settled(batch)
        if not is_plain(lane.steps.registration.policy):
            lane.patience.woken()  # what this one held back
        lost = sum(each.fence not in held for each in batch)
        if lost:
            self._report.lost += lost
            extra = {"queue": lane.steps.queue}
            sentence = "%d leases on queue %s were lost meanwhile"
            _log.warning(sentence, lost, lane.steps.queue, extra=extra)
