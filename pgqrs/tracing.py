"""Spans of OpenTelemetry: one for what is enqueued, one for each working at a message.

Needs the extra `pgqrs[opentelemetry]`. The context travels in the headers of the message, so a
trace goes on in the worker that works at it, also after a retry, a replay or as a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from opentelemetry import propagate, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from sqlalchemy import Connection

from pgqrs import hook
from pgqrs._version import __version__
from pgqrs.call import TogetherError
from pgqrs.outcome import Dead, Retry
from pgqrs.types import QueueMessage

__all__ = ["instrument", "uninstrument", "working"]

T = TypeVar("T")
Provider = TracerProvider | None

_SYSTEM: Final = {"messaging.system": "pgqrs"}


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Trace from now on what this process enqueues, and what handlers do that start from now on.

    With the global provider unless one is given. A message with a context has headers, so each
    enqueue sends some bytes more, and by the statement for messages with options.
    """
    hook.set_tracer(_Tracer(tracer_provider))


def uninstrument() -> None:
    """Trace no more."""
    hook.set_tracer(None)


@contextmanager
def working(
    queue: str,
    messages: QueueMessage | Sequence[QueueMessage],
    tracer_provider: TracerProvider | None = None,
) -> Iterator[Span]:
    """Trace the block as the working at a message, or at a batch: for loops of one's own.

    The span of one message is a child of the one that sent it; that of a batch has links to all.
    """
    batch = [messages] if isinstance(messages, QueueMessage) else list(messages)
    sent = [propagate.extract(_text_of(message.headers)) for message in batch]
    one = isinstance(messages, QueueMessage)
    contexts = [trace.get_current_span(context).get_span_context() for context in sent]
    with _tracer(tracer_provider).start_as_current_span(
        f"process {queue}",
        context=sent[0] if one else None,
        kind=SpanKind.CONSUMER,
        attributes=_about(queue, "process", batch, one=one),
        links=None if one else [Link(context) for context in contexts if context.is_valid],
    ) as span:
        yield span


class _Tracer:
    """What is put into the hook."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def sending(self, queue: str) -> _Sent:
        return _Sent(
            _tracer(self._provider).start_span(
                f"send {queue}", kind=SpanKind.PRODUCER, attributes=_about(queue, "send")
            )
        )

    def handler(
        self, queue: str, handler: Callable[..., Any], *, is_async: bool
    ) -> Callable[..., Any]:
        async def work_async(argument: Any, *session: Any) -> Any:
            with working(queue, argument, self._provider) as span:
                return _noted(span, await handler(argument, *session))

        def work(argument: Any, *session: Any) -> Any:
            with working(queue, argument, self._provider) as span:
                return _noted(span, handler(argument, *session))

        return work_async if is_async else work


class _Sent:
    """A span that lasts until what was prepared is sent."""

    def __init__(self, span: Span) -> None:
        self._span = span
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        self.headers: Mapping[str, str] = carrier

    def around(self, step: Callable[[Connection], T]) -> Callable[[Connection], T]:
        def send(connection: Connection) -> T:
            try:
                result = step(connection)
            except TogetherError:  # it is done again at once
                raise
            except BaseException as error:
                self.done(error)
                raise
            self._span.set_attributes(_of_result(result))
            self.done()
            return result

        return send

    def done(self, error: BaseException | None = None) -> None:
        if error is not None:
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        self._span.end()


def _tracer(provider: Provider) -> trace.Tracer:
    return trace.get_tracer("pgqrs", __version__, provider)


def _about(
    queue: str, operation: str, batch: Sequence[QueueMessage] = (), *, one: bool = False
) -> dict[str, Any]:
    about: dict[str, Any] = {**_SYSTEM, "messaging.destination.name": queue}
    about["messaging.operation.type"] = operation
    if one:
        about["messaging.message.id"] = str(batch[0].id)
        about["pgqrs.attempt"] = batch[0].attempts
    elif batch:
        about["messaging.batch.message_count"] = len(batch)
    return about


def _of_result(result: Any) -> dict[str, Any]:
    if isinstance(result, list):
        return {"messaging.batch.message_count": sum(each is not None for each in result)}
    return {"messaging.message.id": str(result.id)} if result is not None else {}


def _noted(span: Span, result: T) -> T:
    """Note what a handler said, where it is not that all went well."""
    if isinstance(result, Retry | Dead):
        span.set_attribute("pgqrs.outcome", type(result).__name__.lower())
        span.set_status(Status(StatusCode.ERROR, type(result).__name__.lower()))
    return result


def _text_of(headers: Any) -> dict[str, str]:
    """Give the headers that are text: a carrier of a context has no others."""
    mapping = headers if isinstance(headers, Mapping) else {}
    return {name: value for name, value in mapping.items() if isinstance(value, str)}
