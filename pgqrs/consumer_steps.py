"""What a consumer does, prepared as calls for the sync and asyncio classes alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection

from pgqrs.call import Call, call
from pgqrs.checks import checked_status
from pgqrs.errors import LeaseLostError, OutcomeUnknownError, WorkerNotFoundError
from pgqrs.joining import in_read_committed
from pgqrs.leasing import Leaser
from pgqrs.ledger import Ledger
from pgqrs.operations import acknowledge, workers
from pgqrs.operations.acknowledge import Fence, fence_of
from pgqrs.operations.lease import Lease, Terms
from pgqrs.operations.settle import (
    Failure,
    Finish,
    RetryTerms,
    error_text,
    fail_many,
    output_text,
)
from pgqrs.registration import Registration
from pgqrs.types import (
    ArchivedMessage,
    Duration,
    QueueMessage,
    WorkerRole,
    span,
)
from pgqrs.worker import WorkerSteps

__all__ = ["ConsumerSteps", "Held", "as_typed"]

T = TypeVar("T")

Held = QueueMessage | int
"""A leased message, or the id of one that this very consumer leased."""


def as_typed(
    messages: list[QueueMessage], model: type[BaseModel] | None
) -> list[QueueMessage[Any]]:
    """Give the messages with their payloads as this model, if there is one."""
    return messages if model is None else [message.typed(model) for message in messages]


class ConsumerSteps(WorkerSteps):
    """Each public method checks its arguments and gives the call that does it.

    The ledger says what may be acknowledged by id.
    """

    role = WorkerRole.CONSUMER

    def __init__(self, registration: Registration, *, joined: bool = False) -> None:
        super().__init__(registration, joined=joined)
        self.ledger = Ledger()
        self.leaser = Leaser(self)
        self.retry_terms = RetryTerms.of(self.config)

    def joining(self) -> Self:
        """Give the steps for the caller's transaction, with the same ledger."""
        twin = super().joining()
        twin.leaser = Leaser(twin)
        return twin

    def leasing(self, size: int, vt: Duration | None) -> Call[list[QueueMessage]]:
        """Lease due messages. Raises ValueError."""
        return Call(self._here(partial(self._lease, terms=self.leaser.terms(size, vt))))

    def archiving(self, held: Held, status: str, output: Any) -> Call[ArchivedMessage]:
        """Archive one. Raises LeaseLostError, PayloadError, ValueError."""
        checked_status(status)
        text, fence = output_text(output), self.fence(held)
        return self._fenced(partial(self._archive, fence=fence, status=status, out=text))

    def archiving_many(self, many: Iterable[Held]) -> Call[list[bool]]:
        """Archive as completed; says for each whether it was held."""
        return self._fenced(partial(self._archive_many, fences=self._fences(many)))

    def exchanging(
        self, many: Iterable[Held], size: int, vt: Duration | None
    ) -> Call[tuple[list[bool], list[QueueMessage]]]:
        """Archive as completed and lease due messages. Raises ValueError."""
        fences, terms = self._fences(many), self.leaser.terms(size, vt)
        return self._fenced(partial(self._exchange, fences=fences, terms=terms))

    def deleting(self, held: Held) -> Call[None]:
        """Delete one. Raises LeaseLostError."""
        return self._fenced(partial(self._delete, fence=self.fence(held)))

    def deleting_many(self, many: Iterable[Held]) -> Call[list[bool]]:
        """Delete; says for each whether it was held."""
        return self._fenced(partial(self._delete_many, fences=self._fences(many)))

    def extending(self, held: Held, by: Duration) -> Call[QueueMessage]:
        """Extend one lease. Raises LeaseLostError, ValueError."""
        return Call(self._here(partial(self._extend, fence=self.fence(held), by=span(by))))

    def failing(self, held: Held, error: Any, delay: Duration | None) -> Call[bool]:
        """End an attempt that failed. Raises LeaseLostError, PayloadError, ValueError."""
        wait = None if delay is None else span(delay)
        failure = Failure(self.fence(held), error_text(error), wait)
        return self._fenced(partial(self._fail, failure=failure))

    def releasing(self, held: Held, delay: Duration) -> Call[None]:
        """Give one lease back. Raises LeaseLostError, ValueError."""
        fence, wait = self.fence(held), span(delay)
        return self._fenced(partial(self._release, fence=fence, delay=wait))

    def releasing_many(self, many: Iterable[Held], delay: Duration) -> Call[list[bool]]:
        """Give leases back; says for each whether it was held. Raises ValueError."""
        fences, wait = self._fences(many), span(delay)
        return self._fenced(partial(self._release_many, fences=fences, delay=wait))

    def releasing_all(self) -> Call[list[bool]]:
        """Give back all that the ledger has."""
        fences = self.ledger.fences()
        return self._fenced(partial(self._release_many, fences=fences, delay=dt.timedelta()))

    def fence(self, held: Held) -> Fence:
        """Give the fence of what is held. Raises LeaseLostError where it was not leased here."""
        if type(held) is int:  # True is none
            return self.ledger.fence(held)
        if not isinstance(held, QueueMessage):
            raise TypeError(f"what is held is a message or its id, not {held!r}")
        mine = self.registration.worker_id
        if mine is None or held.consumer_worker_id != mine:
            raise LeaseLostError(held.id, "another worker leased it")
        return fence_of(held)

    def _fences(self, many: Iterable[Held]) -> list[Fence | None]:
        """Give the fences; None for what was not leased here, and for repetitions."""
        order = [self._fence_or_none(held) for held in many]
        if len(set(order)) == len(order):
            return order
        first = {fence: place for place, fence in reversed(list(enumerate(order)))}
        return [fence if first[fence] == place else None for place, fence in enumerate(order)]

    def _fence_or_none(self, held: Held) -> Fence | None:
        try:
            return self.fence(held)
        except LeaseLostError:
            return None

    def _fenced(self, step: Callable[[Connection], T]) -> Call[T]:
        return Call(self._here(step), changes=True, repeats=True)

    def _here(self, step: Callable[[Connection], T]) -> Callable[[Connection], T]:
        """Give the step; in the caller's transaction it looks at that first."""
        return in_read_committed(step) if self.joined else step

    def waiting(self, vt: Duration | None) -> Call[Lease]:
        """Lease one message, and learn when the next may come. Raises ValueError."""
        return call(self._lease_noted, self.leaser.terms(1, vt))

    def lease_for_run(self, connection: Connection, size: int) -> Lease:
        """Lease for a running worker, which keeps its own books. Raises QueueNotFoundError."""
        return self.leaser.lease(connection, self.leaser.terms(size, None))

    def finish_for_run(
        self, connection: Connection, finishes: Sequence[Finish], size: int
    ) -> tuple[set[Fence], Lease]:
        """Finish and lease in one statement; gives the fences that held, and the lease."""
        terms = self.leaser.terms(size, None)
        return self.leaser.finish_and_lease(connection, finishes, terms)

    def came_back(self) -> None:
        """Note that messages wait again: the next lease looks for them everywhere."""
        self.leaser.floor.drop()

    def finished_before(self, connection: Connection, finishes: Sequence[Finish]) -> set[Fence]:
        """Give those that were finished by a statement whose reply was lost."""
        done: set[Fence] = set()
        for status in {finish.status for finish in finishes}:
            fences = [finish.fence for finish in finishes if finish.status == status]
            done |= self._were_archived(connection, fences, status)
        return done

    def is_taken_for_dead(self, connection: Connection) -> bool:
        """Say whether the row was stopped because no heartbeat came, and not on purpose."""
        try:
            mine = workers.get(connection, self.schema, self.register(connection)[1])
        except WorkerNotFoundError:
            return True
        silent = (mine.shutdown_at or mine.heartbeat_at) - mine.heartbeat_at
        return silent.total_seconds() >= 2 * self.config.heartbeat_interval_seconds

    def _were_archived(
        self, connection: Connection, fences: list[Fence], status: str
    ) -> set[Fence]:
        known = (connection, self.schema, self._holder())
        found = set(acknowledge.find_archived(*known, fences, status))
        # What is nowhere was archived where the queue keeps nothing of what completed.
        left = acknowledge.exist(connection, self.schema, self._holder()[0], fences)
        return found | {fence for fence in fences if fence.message_id not in left}

    def _lease(self, connection: Connection, terms: Terms) -> list[QueueMessage]:
        return self._lease_noted(connection, terms).messages

    def _lease_noted(self, connection: Connection, terms: Terms) -> Lease:
        lease = self.leaser.lease(connection, terms)
        self._leased(connection, lease)
        return lease

    def _leased(self, connection: Connection, lease: Lease) -> None:
        self.ledger.add(lease.messages)
        self.beat_if_due(connection)

    def _exchange(
        self, connection: Connection, fences: Sequence[Fence | None], terms: Terms
    ) -> tuple[list[bool], list[QueueMessage]]:
        leases: list[Lease] = []
        # Of two leases of one message the first is lost, and the statement goes by ids.
        last = dict(sorted(filter(None, fences)))
        if len(last) < len(fences):
            fences = [f if f and last[f.message_id] == f.read_ct else None for f in fences]

        def send(
            connection: Connection, _schema: str, _worker_id: int, held: Sequence[Fence]
        ) -> set[Fence]:
            finishes = [Finish(fence) for fence in held]
            done, lease = self.leaser.finish_and_lease(connection, finishes, terms)
            leases.append(lease)
            return done

        archived = self._many(connection, fences, send, self._completed_before(connection))
        if not leases:  # nothing was held
            return archived, self._lease(connection, terms)
        self._leased(connection, leases[0])
        return archived, leases[0].messages

    def _archive(
        self, connection: Connection, fence: Fence, status: str, out: str | None
    ) -> ArchivedMessage:
        again = self.ledger.sending([fence])
        schema, (queue_id, worker_id) = self.schema, self._holder()
        found, gone = acknowledge.archive(connection, schema, worker_id, fence, status, out), False
        if found is None and again:
            known = (connection, schema, (queue_id, worker_id))
            found = acknowledge.find_archived(*known, [fence], status).get(fence)
            gone = found is None and not acknowledge.exist(connection, schema, queue_id, [fence])
        self._answered([fence])
        if gone:  # where the queue keeps nothing of what completed, that is how it looks
            raise OutcomeUnknownError(
                f"message {fence.message_id} was archived, or deleted by somebody else: the reply"
                " was lost, and its queue keeps no archive to look in"
            )
        if found is None:
            raise LeaseLostError(fence.message_id)
        return found

    def _archive_many(self, connection: Connection, fences: Sequence[Fence | None]) -> list[bool]:
        earlier = self._completed_before(connection)
        return self._many(connection, fences, acknowledge.archive_many, earlier)

    def _completed_before(self, connection: Connection) -> Callable[[list[Fence]], set[Fence]]:
        return lambda again: self._were_archived(connection, again, "completed")

    def _delete(self, connection: Connection, fence: Fence) -> None:
        if not self._delete_many(connection, [fence])[0]:
            raise LeaseLostError(fence.message_id)

    def _delete_many(self, connection: Connection, fences: Sequence[Fence | None]) -> list[bool]:
        def earlier(again: list[Fence]) -> set[Fence]:
            left = acknowledge.exist(connection, self.schema, self._holder()[0], again)
            return {fence for fence in again if fence.message_id not in left}

        return self._many(connection, fences, acknowledge.delete_many, earlier)

    def _fail(self, connection: Connection, failure: Failure) -> bool:
        fence = failure.fence
        again = self.ledger.sending([fence])
        holder = self.register(connection)
        dead = fail_many(connection, self.schema, holder, [failure], self.retry_terms)
        self._answered([fence])
        self.came_back()
        if fence in dead:
            return dead[fence]
        if not again:
            raise LeaseLostError(fence.message_id)
        # Sent before, and the reply was lost: dead if it is in the archive, else due again.
        return bool(acknowledge.find_archived(connection, self.schema, holder, [fence], "dead"))

    def _extend(self, connection: Connection, fence: Fence, by: dt.timedelta) -> QueueMessage:
        message = acknowledge.extend(connection, self.schema, self._holder()[1], fence, by)
        if message is None:
            raise LeaseLostError(fence.message_id, "it ran out, or the message is finished")
        self.ledger.renew(message)
        return message

    def _release(self, connection: Connection, fence: Fence, delay: dt.timedelta) -> None:
        if not self._release_many(connection, [fence], delay)[0]:
            raise LeaseLostError(fence.message_id)

    def _release_many(
        self, connection: Connection, fences: Sequence[Fence | None], delay: dt.timedelta
    ) -> list[bool]:
        def give_back(
            connection: Connection, schema: str, worker_id: int, held: Sequence[Fence]
        ) -> set[Fence]:
            self.came_back()
            return acknowledge.release(connection, schema, worker_id, held, delay)

        def earlier(again: list[Fence]) -> set[Fence]:
            return set(again)

        return self._many(connection, fences, give_back, earlier)

    def _holder(self) -> tuple[int, int]:
        return self.registration.queue_id or -1, self.registration.worker_id or -1

    def _many(
        self,
        connection: Connection,
        fences: Sequence[Fence | None],
        send: Callable[[Connection, str, int, Sequence[Fence]], set[Fence]],
        earlier: Callable[[list[Fence]], set[Fence]],
    ) -> list[bool]:
        held = [fence for fence in fences if fence is not None]
        if not held:
            return [False] * len(fences)
        again = self.ledger.sending(held)
        done = send(connection, self.schema, self._holder()[1], held)
        unanswered = [fence for fence in again if fence not in done]
        if unanswered:  # sent before, and the reply was lost: were they done then?
            done |= earlier(unanswered)
        self._answered(held)
        return [fence in done for fence in fences]

    def _answered(self, fences: Sequence[Fence]) -> None:
        self.ledger.answered(fences)
        if not self.joined:  # what is joined may still be rolled back
            self.ledger.drop(fences)
