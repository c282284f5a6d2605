"""What an operator does with single messages: on which connection; what, is in `MessageSteps`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from pgqrs.call import Call
from pgqrs.lifecycle import LivingWorker
from pgqrs.message_info import MessageInfo
from pgqrs.message_steps import MessageSteps
from pgqrs.types import ArchivedMessage, QueueMessage

__all__ = ["MessageAdmin"]

T = TypeVar("T")


class MessageAdmin(LivingWorker):
    """The part of an Admin that is about messages, found by their ids in whatever queue."""

    _messages: MessageSteps

    def get_message(self, message_id: int) -> MessageInfo:
        """Look a message up, in its queue or in the archive. Raises MessageNotFoundError."""
        return self._live(self._messages.finding(message_id))

    def messages(self, queue: str, limit: int = 100, offset: int = 0) -> list[MessageInfo]:
        """List messages of a queue: ready, then delayed, then leased. Raises QueueNotFoundError."""
        return self._live(self._messages.listing(queue, limit, offset))

    @overload
    def cancel_messages(self, ids: int) -> None: ...
    @overload
    def cancel_messages(self, ids: Iterable[int]) -> list[bool]: ...
    def cancel_messages(self, ids: int | Iterable[int]) -> list[bool] | None:
        """Finish messages as `cancelled`, at once; a holder gets LeaseLostError when it is done.

        Of one id it raises MessageNotFoundError, and InvalidStateError where it is finished; of
        several it says for each, in order, whether it was cancelled. A message that somebody's
        transaction is just changing is waited for, as long as the query timeout allows.
        """
        return self._live(self._messages.cancelling(ids))

    @overload
    def resume_messages(self, ids: int) -> None: ...
    @overload
    def resume_messages(self, ids: Iterable[int]) -> list[bool]: ...
    def resume_messages(self, ids: int | Iterable[int]) -> list[bool] | None:
        """Let cancelled messages wait again, due now, as the same messages and never tried.

        Id and read count stay. Of one id it raises MessageNotFoundError, and InvalidStateError
        where it is not cancelled or was archived without its payload; otherwise as
        `cancel_messages`.
        """
        return self._live(self._messages.resuming(ids))

    @overload
    def retry_messages(self, ids: int) -> None: ...
    @overload
    def retry_messages(self, ids: Iterable[int]) -> list[bool]: ...
    def retry_messages(self, ids: int | Iterable[int]) -> list[bool] | None:
        """Let failed and dead messages wait again, due now, for one more attempt.

        Their limit becomes one more than it was; id and read count stay. Of one id it raises
        MessageNotFoundError, and InvalidStateError where it did not fail or was archived without
        its payload; otherwise as `cancel_messages`.
        """
        return self._live(self._messages.retrying(ids))

    @overload
    def fail_messages(self, ids: int, error: Any) -> None: ...
    @overload
    def fail_messages(self, ids: Iterable[int], error: Any) -> list[bool]: ...
    def fail_messages(self, ids: int | Iterable[int], error: Any) -> list[bool] | None:
        """Finish messages as `failed`, with an error that is kept, whatever attempts are left.

        `error` is an exception, text or a JSON value. Raises PayloadError; otherwise as
        `cancel_messages`.
        """
        return self._live(self._messages.failing(ids, error))

    @overload
    def archive_messages(self, ids: int, status: str = ..., *, force: bool = ...) -> None: ...
    @overload
    def archive_messages(
        self, ids: Iterable[int], status: str = ..., *, force: bool = ...
    ) -> list[bool]: ...
    def archive_messages(
        self, ids: int | Iterable[int], status: str = "completed", *, force: bool = False
    ) -> list[bool] | None:
        """Move messages that nobody holds to the archive; with `force` leased ones too.

        Of one id it raises InvalidStateError also where it is leased. Raises ValueError for a
        status that is empty or too long; otherwise as `cancel_messages`.
        """
        return self._live(self._messages.archiving(ids, status, force=force))

    @overload
    def delete_messages(self, ids: int, *, force: bool = ...) -> None: ...
    @overload
    def delete_messages(self, ids: Iterable[int], *, force: bool = ...) -> list[bool]: ...
    def delete_messages(
        self, ids: int | Iterable[int], *, force: bool = False
    ) -> list[bool] | None:
        """Delete messages that nobody holds, without a trace; with `force` leased ones too.

        What is archived stays. Otherwise as `archive_messages`.
        """
        return self._live(self._messages.deleting(ids, force=force))

    @overload
    def release_messages(self, ids: int, *, force: bool = ...) -> None: ...
    @overload
    def release_messages(self, ids: Iterable[int], *, force: bool = ...) -> list[bool]: ...
    def release_messages(
        self, ids: int | Iterable[int], *, force: bool = False
    ) -> list[bool] | None:
        """Make messages that nobody holds due now; `force` ends leases, at no attempt's cost.

        Otherwise as `archive_messages`.
        """
        return self._live(self._messages.releasing(ids, force=force))

    @overload
    def replay(self, ids: int) -> QueueMessage: ...
    @overload
    def replay(self, ids: Iterable[int]) -> list[QueueMessage | None]: ...
    def replay(self, ids: int | Iterable[int]) -> QueueMessage | list[QueueMessage | None]:
        """Enqueue archived messages as new ones, due now; what is archived stays.

        The headers of a new one say {"pgqrs": {"replay_of": id}}. Of one id it raises
        MessageNotFoundError, and InvalidStateError where it is not archived or was archived without
        its payload; of several it gives for each, in order, the new message, or None.
        """
        return self._live(self._messages.replaying(ids))

    def archived_messages(
        self, queue: str, status: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[ArchivedMessage]:
        """List archived messages of a queue, of one status or any, the newest first.

        Raises QueueNotFoundError.
        """
        return self._live(self._messages.listing_archived(queue, status, limit, offset))

    def archived_after(
        self, queue: str, after: int = 0, limit: int = 1000, status: str | None = None
    ) -> list[ArchivedMessage]:
        """List archived messages of a queue with ids above `after`, the oldest first.

        The pages of an export: the next begins after the last id of this one. What is archived
        meanwhile with a smaller id is not met again. Raises QueueNotFoundError.
        """
        return self._live(self._messages.listing_after(queue, status, after, limit))

    def erase_archived(
        self, queue: str, ids: Iterable[int] | None = None, *, containing: Any = None
    ) -> int:
        """Erase archived messages of a queue, by their ids or by their payload; gives how many.

        For what must not be kept: `containing` is a part of the payload, as in `{"user": 17}`. In
        batches, each a commit where an engine is bound; waits for who is just changing such a
        message. What still waits or is leased stays, and so do copies in a dead letter queue. A key
        or id that it was sent with is kept apart, and goes by maintenance once its time is over.
        Raises QueueNotFoundError, and ValueError unless there are ids or a part that says
        something.
        """
        return self._live(self._messages.erasing(queue, ids, containing))

    def dead_letters(self, queue: str, limit: int = 100, offset: int = 0) -> list[ArchivedMessage]:
        """List what died in a queue, from its archive, the newest first.

        Raises QueueNotFoundError.
        """
        return self.archived_messages(queue, "dead", limit, offset)

    def replay_dead_letters(self, queue: str, limit: int = 100) -> int:
        """Move up to `limit` messages of a dead letter queue back to the queues they came from.

        Due now, with all attempts anew, under the ids that they have; their headers then say
        {"pgqrs": {"replay_of": id}}. Leased ones stay, and what came there otherwise or from a
        queue that is gone. Gives how many were moved. Raises QueueNotFoundError.
        """
        return self._live(self._messages.replaying_dead(queue, limit))

    def _live(self, call_: Call[T]) -> T:
        raise NotImplementedError
