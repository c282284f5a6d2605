"""What an operator does with single messages by their ids, whoever holds them.

Many at once are one statement, which skips what somebody is just changing; that is then waited for,
one by one, no longer than the connection's time limits allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Executable

from pgqrs.checks import checked_status
from pgqrs.errors import (
    DuplicateMessageError,
    InvalidStateError,
    MessageNotFoundError,
    PgqrsError,
)
from pgqrs.message_info import MessageInfo, MessageState
from pgqrs.operations import queues
from pgqrs.operations.settle import error_text
from pgqrs.statements import dead_letter, look, restore, withdraw
from pgqrs.types import ArchivedMessage, QueueMessage

__all__ = [
    "Act",
    "archived",
    "archiving",
    "cancelling",
    "deleting",
    "do",
    "do_each",
    "failing",
    "find",
    "page",
    "releasing",
    "replay",
    "replay_dead_letters",
    "replay_each",
    "resuming",
    "retrying",
]

_BATCH: Final = 1_000
"""How many messages one statement touches."""


_FINISHED: Final = (
    *(MessageState.COMPLETED, MessageState.CANCELLED),
    *(MessageState.FAILED, MessageState.EXPIRED),
)
_RESTORING: Final[Mapping[str, Sequence[MessageState]]] = {
    "resumed": (MessageState.CANCELLED,),
    "retried": (MessageState.FAILED,),
    "replayed": _FINISHED,
}
"""From which states what is archived may wait again, unless another of its key keeps it out."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do with messages: its statement, and what they are then."""

    build: Callable[..., Executable]
    then: str
    values: Mapping[str, Any]


def cancelling() -> Act:
    """Finish what is not finished, as cancelled."""
    values = {"outcome": "cancelled", "reason": None, "force": True}
    return Act(withdraw.archive, "cancelled", values)


def failing(error: Any) -> Act:
    """Finish what is not finished, as failed. Raises PayloadError."""
    values = {"outcome": "failed", "reason": error_text(error), "force": True}
    return Act(withdraw.archive, "failed", values)


def archiving(status: str, *, force: bool) -> Act:
    """Archive what waits; with `force` also what is leased. Raises ValueError."""
    values = {"outcome": checked_status(status), "reason": None, "force": force}
    return Act(withdraw.archive, "archived", values)


def deleting(*, force: bool) -> Act:
    """Delete what waits; with `force` also what is leased."""
    return Act(withdraw.delete_any, "deleted", {"force": force})


def releasing(*, force: bool) -> Act:
    """Make what waits due now; with `force` also what is leased."""
    return Act(withdraw.release, "released", {"force": force})


def resuming() -> Act:
    """Let what was cancelled wait again, as if never tried."""
    return Act(restore.resume, "resumed", {})


def retrying(default_attempts: int) -> Act:
    """Let what failed or died wait for one more attempt than it had."""
    return Act(restore.retry, "retried", {"default_attempts": default_attempts})


def do(connection: Connection, schema: str, act: Act, message_id: int) -> None:
    """Act on one message. Raises MessageNotFoundError, InvalidStateError."""
    if message_id not in _done(connection, schema, act, [message_id]):
        raise _refused(connection, schema, message_id, act.then)


def do_each(
    connection: Connection, schema: str, act: Act, message_ids: Sequence[int]
) -> list[bool]:
    """Act on many; says for each, in order, whether it was done."""
    done: set[int] = set()
    for some in _batches(message_ids):
        done |= _done(connection, schema, act, some)
    return [message_id in done for message_id in message_ids]


def find(connection: Connection, schema: str, message_id: int) -> MessageInfo:
    """Look a message up wherever it is. Raises MessageNotFoundError."""
    row = connection.execute(look.find(schema), {"mid": message_id}).first()
    if row is None:
        raise MessageNotFoundError(message_id)
    return MessageInfo(*row)


def page(
    connection: Connection, schema: str, queue: str, limit: int, offset: int
) -> list[MessageInfo]:
    """List messages of a queue: ready, then delayed, then leased. Raises QueueNotFoundError."""
    where = {"queue": queues.find(connection, schema, queue).id, "size": limit, "start": offset}
    return [MessageInfo(*row) for row in connection.execute(look.page(schema), where)]


def archived(
    connection: Connection, schema: str, queue: str, status: str | None, limit: int, offset: int
) -> list[ArchivedMessage]:
    """List archived messages of a queue, the newest first. Raises QueueNotFoundError."""
    where = {"queue": queues.find(connection, schema, queue).id, "size": limit, "start": offset}
    unfinished = status not in {None, "completed"}
    statement = look.archived(schema, by_status=status is not None, unfinished=unfinished)
    rows = connection.execute(statement, where if status is None else where | {"status": status})
    return [ArchivedMessage(*row) for row in rows]


def replay_dead_letters(connection: Connection, schema: str, queue: str, limit: int) -> int:
    """Move dead letters back to where they came from; gives how many. Raises QueueNotFoundError."""
    those = {"queue": queues.find(connection, schema, queue).id, "n": limit}
    return len(connection.execute(dead_letter.replay(schema), those).all())


def replay(connection: Connection, schema: str, message_id: int) -> QueueMessage:
    """Enqueue a copy of an archived message. Raises MessageNotFoundError, InvalidStateError."""
    (message,) = replay_each(connection, schema, [message_id])
    if message is None:
        raise _refused(connection, schema, message_id, "replayed")
    return message


def replay_each(
    connection: Connection, schema: str, message_ids: Sequence[int]
) -> list[QueueMessage | None]:
    """Enqueue copies of archived messages; gives for each, in order, the new one, or None."""
    made: dict[int, QueueMessage] = {}
    for some in _batches(message_ids):
        for old, *columns in connection.execute(restore.replay(schema), {"mids": some}):
            made[old] = QueueMessage(*columns)
    return [made.get(message_id) for message_id in message_ids]


def _done(connection: Connection, schema: str, act: Act, ids: Sequence[int]) -> set[int]:
    statement = act.build(schema, waits=False)
    rows: Any = connection.execute(statement, {**act.values, "mids": ids}).all()
    done = {message_id for message_id, is_done, _ in rows if is_done}
    for message_id, is_done, was_there in rows:
        if was_there and not is_done:  # somebody was just changing it
            waiting = act.build(schema, waits=True)
            again = connection.execute(waiting, {**act.values, "mids": [message_id]}).one()
            done |= {message_id} if again[1] else set()
    return done


def _refused(connection: Connection, schema: str, message_id: int, wanted: str) -> PgqrsError:
    found = find(connection, schema, message_id)
    bare = found.archived_at is not None and found.payload_json is None
    restoring = wanted in _RESTORING
    if found.state in _RESTORING.get(wanted, ()) and not bare and found.key is not None:
        return DuplicateMessageError(found.queue_name, key=found.key)
    current = "archived without its payload" if bare and restoring else found.state.value
    return InvalidStateError(f"message {message_id}", current, wanted)


def _batches(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
