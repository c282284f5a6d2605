"""What an admin does with single messages, as calls for the sync and asyncio classes alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pgqrs.call import Call, call
from pgqrs.checks import checked_ids
from pgqrs.config import Config
from pgqrs.message_info import MessageInfo
from pgqrs.operations import history, intervene
from pgqrs.operations.intervene import Act
from pgqrs.types import ArchivedMessage, QueueMessage

__all__ = ["MessageSteps"]


class MessageSteps:
    """Each method checks its arguments and gives the call that does it.

    `ids` is one id, of which the call gives nothing or raises, or several, of which it says for
    each whether it was done.
    """

    def __init__(self, config: Config) -> None:
        self.schema = config.schema_
        self._attempts = config.max_attempts

    def finding(self, message_id: int) -> Call[MessageInfo]:
        """Look a message up, wherever it is."""
        return call(intervene.find, self.schema, message_id)

    def listing(self, queue: str, limit: int, offset: int) -> Call[list[MessageInfo]]:
        """List messages of a queue."""
        return call(intervene.page, self.schema, queue, limit, offset)

    def cancelling(self, ids: int | Iterable[int]) -> Call[list[bool] | None]:
        """Cancel what is not finished."""
        return self._acting(intervene.cancelling(), ids)

    def failing(self, ids: int | Iterable[int], error: Any) -> Call[list[bool] | None]:
        """Fail what is not finished. Raises PayloadError."""
        return self._acting(intervene.failing(error), ids)

    def resuming(self, ids: int | Iterable[int]) -> Call[list[bool] | None]:
        """Let what was cancelled wait again."""
        return self._acting(intervene.resuming(), ids)

    def retrying(self, ids: int | Iterable[int]) -> Call[list[bool] | None]:
        """Let what failed or died wait again."""
        return self._acting(intervene.retrying(self._attempts), ids)

    def archiving(
        self, ids: int | Iterable[int], status: str, *, force: bool
    ) -> Call[list[bool] | None]:
        """Archive what nobody holds. Raises ValueError."""
        return self._acting(intervene.archiving(status, force=force), ids)

    def deleting(self, ids: int | Iterable[int], *, force: bool) -> Call[list[bool] | None]:
        """Delete what nobody holds."""
        return self._acting(intervene.deleting(force=force), ids)

    def releasing(self, ids: int | Iterable[int], *, force: bool) -> Call[list[bool] | None]:
        """Make what nobody holds due now."""
        return self._acting(intervene.releasing(force=force), ids)

    def replaying(self, ids: int | Iterable[int]) -> Call[QueueMessage | list[QueueMessage | None]]:
        """Enqueue copies of archived messages."""
        if type(ids) is int:
            return Call(call(intervene.replay, self.schema, ids).step, changes=True)
        return Call(call(intervene.replay_each, self.schema, checked_ids(ids)).step, changes=True)

    def listing_archived(
        self, queue: str, status: str | None, limit: int, offset: int
    ) -> Call[list[ArchivedMessage]]:
        """List archived messages of a queue."""
        return call(intervene.archived, self.schema, queue, status, limit, offset)

    def listing_after(
        self, queue: str, status: str | None, after: int, limit: int
    ) -> Call[list[ArchivedMessage]]:
        """List archived messages of a queue behind an id."""
        return call(history.page_after, self.schema, queue, status, after, limit)

    def erasing(self, queue: str, ids: Iterable[int] | None, containing: Any) -> Call[int]:
        """Erase archived messages, by ids or by a part of the payload. Raises ValueError."""
        if (ids is None) == (containing is None):
            raise ValueError("say what to erase: ids, or what the payload contains")
        if ids is not None:
            return call(history.erase, self.schema, queue, checked_ids(ids))
        part = history.checked_part(containing)
        return call(history.erase_matching, self.schema, queue, part)

    def replaying_dead(self, queue: str, limit: int) -> Call[int]:
        """Move dead letters back to where they came from."""
        return Call(
            call(intervene.replay_dead_letters, self.schema, queue, limit).step, changes=True
        )

    def _acting(self, act: Act, ids: int | Iterable[int]) -> Call[list[bool] | None]:
        if type(ids) is int:
            return Call(call(intervene.do, self.schema, act, ids).step, changes=True)
        return Call(call(intervene.do_each, self.schema, act, checked_ids(ids)).step, changes=True)
