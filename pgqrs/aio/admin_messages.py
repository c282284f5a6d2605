"""What an operator does with single messages, under asyncio: the twin of `pgqrs.admin_messages`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, overload

from pgqrs.aio.lifecycle import AsyncLivingWorker
from pgqrs.call import Call
from pgqrs.message_info import MessageInfo
from pgqrs.message_steps import MessageSteps
from pgqrs.types import ArchivedMessage, QueueMessage

__all__ = ["AsyncMessageAdmin"]

T = TypeVar("T")


class AsyncMessageAdmin(AsyncLivingWorker):
    """The part of an AsyncAdmin that is about messages, found by their ids in whatever queue."""

    _messages: MessageSteps

    async def get_message(self, message_id: int) -> MessageInfo:
        """Look a message up, in its queue or in the archive. Raises MessageNotFoundError."""
        return await self._live(self._messages.finding(message_id))

    async def messages(self, queue: str, limit: int = 100, offset: int = 0) -> list[MessageInfo]:
        """List messages of a queue: ready, then delayed, then leased. Raises QueueNotFoundError."""
        return await self._live(self._messages.listing(queue, limit, offset))

    @overload
    async def cancel_messages(self, ids: int) -> None: ...
    @overload
    async def cancel_messages(self, ids: Iterable[int]) -> list[bool]: ...
    async def cancel_messages(self, ids: int | Iterable[int]) -> list[bool] | None:
        """Finish messages as `cancelled`, at once; a holder gets LeaseLostError when it is done.

        Contract and errors are those of `pgqrs.Admin.cancel_messages`.
        """
        return await self._live(self._messages.cancelling(ids))

    @overload
    async def resume_messages(self, ids: int) -> None: ...
    @overload
    async def resume_messages(self, ids: Iterable[int]) -> list[bool]: ...
    async def resume_messages(self, ids: int | Iterable[int]) -> list[bool] | None:
        """Let cancelled messages wait again, due now, as the same messages and never tried.

        Contract and errors are those of `pgqrs.Admin.resume_messages`.
        """
        return await self._live(self._messages.resuming(ids))

    @overload
    async def retry_messages(self, ids: int) -> None: ...
    @overload
    async def retry_messages(self, ids: Iterable[int]) -> list[bool]: ...
    async def retry_messages(self, ids: int | Iterable[int]) -> list[bool] | None:
        """Let failed and dead messages wait again, due now, for one more attempt.

        Contract and errors are those of `pgqrs.Admin.retry_messages`.
        """
        return await self._live(self._messages.retrying(ids))

    @overload
    async def fail_messages(self, ids: int, error: Any) -> None: ...
    @overload
    async def fail_messages(self, ids: Iterable[int], error: Any) -> list[bool]: ...
    async def fail_messages(self, ids: int | Iterable[int], error: Any) -> list[bool] | None:
        """Finish messages as `failed`, with an error that is kept, whatever attempts are left.

        Contract and errors are those of `pgqrs.Admin.fail_messages`.
        """
        return await self._live(self._messages.failing(ids, error))

    @overload
    async def archive_messages(self, ids: int, status: str = ..., *, force: bool = ...) -> None: ...
    @overload
    async def archive_messages(
        self, ids: Iterable[int], status: str = ..., *, force: bool = ...
    ) -> list[bool]: ...
    async def archive_messages(
        self, ids: int | Iterable[int], status: str = "completed", *, force: bool = False
    ) -> list[bool] | None:
        """Move messages that nobody holds to the archive; with `force` leased ones too.

        Contract and errors are those of `pgqrs.Admin.archive_messages`.
        """
        return await self._live(self._messages.archiving(ids, status, force=force))

    @overload
    async def delete_messages(self, ids: int, *, force: bool = ...) -> None: ...
    @overload
    async def delete_messages(self, ids: Iterable[int], *, force: bool = ...) -> list[bool]: ...
    async def delete_messages(
        self, ids: int | Iterable[int], *, force: bool = False
    ) -> list[bool] | None:
        """Delete messages that nobody holds, without a trace; with `force` leased ones too.

        Contract and errors are those of `pgqrs.Admin.delete_messages`.
        """
        return await self._live(self._messages.deleting(ids, force=force))

    @overload
    async def release_messages(self, ids: int, *, force: bool = ...) -> None: ...
    @overload
    async def release_messages(self, ids: Iterable[int], *, force: bool = ...) -> list[bool]: ...
    async def release_messages(
        self, ids: int | Iterable[int], *, force: bool = False
    ) -> list[bool] | None:
        """Make messages that nobody holds due now; `force` ends leases, at no attempt's cost.

        Contract and errors are those of `pgqrs.Admin.release_messages`.
        """
        return await self._live(self._messages.releasing(ids, force=force))

    @overload
    async def replay(self, ids: int) -> QueueMessage: ...
    @overload
    async def replay(self, ids: Iterable[int]) -> list[QueueMessage | None]: ...
    async def replay(self, ids: int | Iterable[int]) -> QueueMessage | list[QueueMessage | None]:
        """Enqueue archived messages as new ones, due now; what is archived stays.

        The headers of a new one say {"pgqrs": {"replay_of": id}}. Of one id it raises
        MessageNotFoundError, and InvalidStateError where it is not archived or was archived without
        its payload; of several it gives for each, in order, the new message, or None.
        """
        return await self._live(self._messages.replaying(ids))

    async def archived_messages(
        self, queue: str, status: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[ArchivedMessage]:
        """List archived messages of a queue, of one status or any, the newest first.

        Raises QueueNotFoundError.
        """
        return await self._live(self._messages.listing_archived(queue, status, limit, offset))

    async def archived_after(
        self, queue: str, after: int = 0, limit: int = 1000, status: str | None = None
    ) -> list[ArchivedMessage]:
        """List archived messages of a queue with ids above `after`, the oldest first.

        Contract and errors are those of `pgqrs.Admin.archived_after`.
        """
        return await self._live(self._messages.listing_after(queue, status, after, limit))

    async def erase_archived(
        self, queue: str, ids: Iterable[int] | None = None, *, containing: Any = None
    ) -> int:
        """Erase archived messages of a queue, by their ids or by their payload; gives how many.

        Contract and errors are those of `pgqrs.Admin.erase_archived`.
        """
        return await self._live(self._messages.erasing(queue, ids, containing))

    async def dead_letters(
        self, queue: str, limit: int = 100, offset: int = 0
    ) -> list[ArchivedMessage]:
        """List what died in a queue, from its archive, the newest first.

        Raises QueueNotFoundError.
        """
        return await self.archived_messages(queue, "dead", limit, offset)

    async def replay_dead_letters(self, queue: str, limit: int = 100) -> int:
        """Move up to `limit` messages of a dead letter queue back to the queues they came from.

        Contract and errors are those of `pgqrs.Admin.replay_dead_letters`.
        """
        return await self._live(self._messages.replaying_dead(queue, limit))

    async def _live(self, call_: Call[T]) -> T:
        raise NotImplementedError
