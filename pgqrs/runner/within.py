"""Run handlers in a transaction of the application's, in which their message is archived too.

What a handler wrote and the end of its message are committed together or not at all. Whatever else
comes of it is rolled back, and settled by the loop as always.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from sqlalchemy.orm import Session

from pgqrs import models
from pgqrs.binding import SessionBinding
from pgqrs.consumer_steps import ConsumerSteps
from pgqrs.errors import InvalidStateError, LeaseLostError
from pgqrs.joining import autocommits, check_isolation
from pgqrs.message import Handlers
from pgqrs.operations.acknowledge import fence_of
from pgqrs.outcome import Dead, Done, Retry
from pgqrs.runner.task import Acknowledged, Task
from pgqrs.translation import translated

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import async_sessionmaker
    from sqlalchemy.orm import sessionmaker

__all__ = ["Sessions", "Work", "is_async", "sessions_for", "work_of"]

Handler: TypeAlias = Callable[..., Any]
Sessions: TypeAlias = "sessionmaker[Any] | async_sessionmaker[Any]"
"""What gives the sessions in which handlers work."""
Work: TypeAlias = Callable[[Task], Any]
"""What is done with a task: gives what the handler said of it, or how it was acknowledged."""

_AUTOCOMMIT: Final = "the connection of the session that run() was given"
_ENDED: Final = "the transaction that run() began"


def is_async(handler: Handler) -> bool:
    """Say whether a handler is a coroutine function."""
    if isinstance(handler, Handlers):
        return handler.is_async
    called = getattr(handler, "__call__", None)  # noqa: B004 - of an object that is a handler
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)


def sessions_for(handler: Handler, given: Any) -> Sessions:
    """Give the sessions of a sessionmaker. Raises TypeError where it does not suit the handler."""
    kind = getattr(given, "class_", None)
    if not isinstance(kind, type) or not callable(given):
        raise TypeError(f"session is a sessionmaker or async_sessionmaker, not {given!r}")
    if is_async(handler) == issubclass(kind, Session):
        wanted = "async_sessionmaker" if is_async(handler) else "sessionmaker"
        what = "coroutine functions" if is_async(handler) else "plain functions"
        raise TypeError(f"{what} work with a {wanted}, not with {given!r}")
    return cast("Sessions", given)


def work_of(handler: Handler, steps: ConsumerSteps, sessions: Sessions | None) -> Work:
    """Give what is done with each task of a consumer."""
    if sessions is None:
        return lambda task: handler(task.argument)
    inside = _Inside(handler, steps, sessions)
    return inside.work_later if is_async(handler) else inside.work


class _Inside:
    """A handler, and the sessions in which it works and its messages are archived."""

    def __init__(self, handler: Handler, steps: ConsumerSteps, sessions: Sessions) -> None:
        self._handler = handler
        self._steps = steps.joining()
        self._sessions: Any = sessions

    def work(self, task: Task) -> Any:
        """Call a plain function; leaving the session rolls back what was not committed."""
        with self._sessions() as session:
            begun = self._begin(session)
            result = self._handler(task.argument, session)
            if isinstance(result, Retry | Dead):
                return result
            if not self._archive(session, task, result, begun):
                return Acknowledged.lost(task)
            try:
                session.commit()
            except BaseException as error:  # noqa: BLE001 - it may be committed all the same
                return Acknowledged.unsure(task, error)
        return Acknowledged.held(task)

    async def work_later(self, task: Task) -> Any:
        """Call a coroutine function; otherwise as `work`."""
        async with self._sessions() as session:
            begun = await session.run_sync(self._begin)
            result = await self._handler(task.argument, session)
            if isinstance(result, Retry | Dead):
                return result
            if not await session.run_sync(self._archive, task, result, begun):
                return Acknowledged.lost(task)
            try:
                await session.commit()
            except BaseException as error:  # noqa: BLE001 - it may be committed all the same
                return Acknowledged.unsure(task, error)
        return Acknowledged.held(task)

    def _begin(self, session: Session) -> Any:
        """Begin the transaction, and see that it is one to archive in, before anything is done."""
        with translated(self._steps.schema):
            connection = session.connection(bind_arguments={"mapper": models.Message})
            if autocommits(connection):
                raise InvalidStateError(_AUTOCOMMIT, "in AUTOCOMMIT", "used for a transaction")
            check_isolation(connection)
        return session.get_transaction()

    def _archive(self, session: Session, task: Task, result: Any, begun: Any) -> bool:
        """Archive the message; says whether its lease was held."""
        if session.get_transaction() is not begun:
            raise InvalidStateError(_ENDED, "ended by the handler", "committed with its message")
        if task.refused:
            return False
        session.flush()  # which may take long, and leases are extended until the message is locked
        task.ends = True
        message = task.messages[0]
        output = result.output if isinstance(result, Done) else result
        call = self._steps.archiving(message, "completed", output)
        try:
            SessionBinding(session, self._steps.config).run(call)
        except LeaseLostError:
            return False
        finally:
            self._steps.ledger.answered([fence_of(message)])
        return True
