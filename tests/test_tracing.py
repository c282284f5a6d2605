"""Tracing: a trace goes on from who enqueues to who works, in the headers of the message."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from pgqrs import (
    Admin,
    Config,
    Consumer,
    NewMessage,
    PartlyEnqueuedError,
    PayloadError,
    Producer,
    Retry,
    tracing,
)
from pgqrs.aio import AsyncConsumer, AsyncProducer
from pgqrs.hook import traced_handler


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What was traced during a test, with a provider of its own."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.instrument(provider)
    yield exporter
    tracing.uninstrument()
    provider.shutdown()


@pytest.fixture(autouse=True)
def _queue(admin: Admin) -> None:
    admin.create_queue("mails", retry_delay=0)


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def context_of(span: ReadableSpan) -> Any:
    assert span.context is not None
    return span.context


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_the_handler_is_a_part_of_the_trace_that_enqueued(
    config: Config, spans: InMemorySpanExporter
) -> None:
    """Each attempt has a span, current while the handler works; a failed one is an error."""
    seen: list[int] = []

    def handler(message: Any) -> Any:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        if message.attempts == 1:
            raise LookupError("no such thing")
        if message.attempts == 2:
            return Retry(delay=0)
        consumer.stop()
        return None

    with Producer(config, "mails") as producer, Consumer(config, "mails") as consumer:
        with trace.use_span(trace.NonRecordingSpan(_parent())):
            sent = producer.enqueue({"to": "a"}, headers={"tenant": "x"})
        consumer.run(handler)
    (send,) = named(spans, "send mails")
    work = named(spans, "process mails")
    assert sent.headers["tenant"] == "x"
    assert sent.headers["traceparent"].split("-")[1] == f"{context_of(send).trace_id:032x}"
    assert context_of(send).trace_id == _parent().trace_id
    assert (send.kind, about(send)["messaging.message.id"]) == (SpanKind.PRODUCER, str(sent.id))
    assert seen == [_parent().trace_id] * 3
    for span, attempt in zip(work, (1, 2, 3), strict=True):
        assert span.kind is SpanKind.CONSUMER
        assert span.parent is not None
        assert span.parent.span_id == context_of(send).span_id
        assert about(span)["pgqrs.attempt"] == attempt
        assert about(span)["messaging.destination.name"] == "mails"
    codes = [span.status.status_code for span in work]
    assert codes == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert (work[0].events[0].name, about(work[1])["pgqrs.outcome"]) == ("exception", "retry")


def _parent() -> trace.SpanContext:
    return trace.SpanContext(0xA11CE, 0xB0B, is_remote=False, trace_flags=trace.TraceFlags(1))


def test_a_batch_links_to_all_that_sent_it(config: Config, spans: InMemorySpanExporter) -> None:
    """One span sends a batch, headers of single messages stay, and one span works at it."""
    with Producer(config, "mails") as producer, Consumer(config, "mails") as consumer:
        sent = producer.batch_enqueue([1, NewMessage(2, headers={"tenant": "y"})])
        producer.batch_enqueue(range(3), atomic=False)

        def handler(messages: list[Any]) -> None:
            if len(messages) == 5:
                consumer.stop()

        consumer.run(handler, batch=True)
    first, second = named(spans, "send mails")
    assert about(first)["messaging.batch.message_count"] == 2
    assert [set(message.headers) for message in sent] == [
        {"traceparent"},
        {"traceparent", "tenant"},
    ]
    (work,) = named(spans, "process mails")
    assert about(work)["messaging.batch.message_count"] == 5
    linked = {link.context.span_id for link in work.links}
    assert linked == {context_of(first).span_id, context_of(second).span_id}
    assert work.parent is None


def test_handlers_in_a_session_are_traced_too(
    config: Config, engine: Engine, spans: InMemorySpanExporter
) -> None:
    """What they get beside the message goes on to them, and what they do is committed."""
    with Producer(config, "mails") as producer, Consumer(config, "mails") as consumer:
        producer.enqueue(1)

        def handler(_: Any, session: Session) -> None:
            assert session.scalar(text("SELECT 7")) == 7
            consumer.stop()

        report = consumer.run(handler, session=sessionmaker(engine))
    assert (report.completed, report.failed) == (1, 0)
    (work,) = named(spans, "process mails")
    assert work.parent is not None


def test_asyncio_and_loops_of_ones_own(config: Config, spans: InMemorySpanExporter) -> None:
    """Coroutine handlers are traced as they are awaited; `working` is for messages dequeued."""

    async def main() -> None:
        async with AsyncProducer(config, "mails") as producer:
            await producer.enqueue(1)
            await producer.enqueue(2)
        async with AsyncConsumer(config, "mails") as consumer:

            async def handler(_: Any) -> None:
                await asyncio.sleep(0)
                assert trace.get_current_span().get_span_context().is_valid
                await consumer.stop()

            await consumer.run(handler, concurrency=1, prefetch=0)

    asyncio.run(main())
    (work,) = named(spans, "process mails")
    first, second = named(spans, "send mails")
    assert work.parent is not None
    assert work.parent.span_id == context_of(first).span_id
    with Consumer(config, "mails") as consumer:
        message = consumer.dequeue()
        assert message is not None
        with tracing.working("mails", message) as span:
            inside = span.get_span_context()
    assert inside.trace_id == context_of(second).trace_id


def test_what_is_refused_is_an_error_of_its_span(
    config: Config, spans: InMemorySpanExporter
) -> None:
    """A span ends also where nothing is sent."""
    with Producer(config, "mails") as producer:
        with pytest.raises(PayloadError):
            producer.enqueue("no JSON")
        with pytest.raises(PartlyEnqueuedError):
            producer.batch_enqueue(["1", "no JSON"], atomic=False)
    assert [span.status.status_code for span in named(spans, "send mails")] == [
        StatusCode.ERROR
    ] * 2


def test_what_is_done_again_in_a_transaction_is_one_span(
    config: Config, admin: Admin, spans: InMemorySpanExporter
) -> None:
    """The first message of a producer that learns of its queue's policy is no error."""
    admin.create_queue("short", policy="short")
    with Producer(config, "short") as producer:
        producer.enqueue(1, message_id="8a1f5c1e-0000-4000-8000-000000000001")
    (span,) = named(spans, "send short")
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events


def test_without_it_nothing_is_added_and_nothing_is_loaded(config: Config) -> None:
    """Messages have no headers, handlers are called as they are, and the extra is not needed."""
    assert traced_handler("mails", print, is_async=False) is print
    with Producer(config, "mails") as producer:
        assert producer.enqueue(1).headers is None
    code = "import pgqrs, sys; pgqrs.Producer, pgqrs.Runner; print('opentelemetry' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
