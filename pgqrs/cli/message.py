"""The commands for messages: send, read, show, cancel, resume, retry."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgqrs.cli.message_options import taking_message_options
from pgqrs.cli.options import options_of
from pgqrs.errors import PayloadError

if TYPE_CHECKING:
    from pgqrs.admin import Admin

__all__ = ["MessageIds", "app"]

app = typer.Typer(name="message", help="Send, read and show messages, and decide on single ones.")

Queue = Annotated[str, typer.Argument(help="The name of the queue.")]

MessageIds = Annotated[list[int], typer.Argument(metavar="ID...", help="The ids of messages.")]

_SENT = ("id", "priority", "max_attempts", "vt", "payload")
_COLUMNS = ("id", "read_ct", "consumer_worker_id", "vt", "payload")


@app.command(epilog="""Example: pgqrs message send my_queue '{"task": "process", "id": 123}'""")
@taking_message_options
def send(
    context: typer.Context,
    queue: Queue,
    payload: Annotated[str, typer.Argument(help="JSON text, or - for standard input.")],
    *,
    given: dict[str, Any],
) -> None:
    """Add a message to a queue."""
    from pgqrs.producer import Producer

    options = options_of(context)
    text = _json_text(sys.stdin.buffer.read() if payload == "-" else payload)
    with Producer(options.config(), queue) as producer:
        message = producer.enqueue(text, **given)
    if message is None:
        options.output.done("another message keeps it out", queue_name=queue, id=None)
    else:
        options.output.one(message, _SENT)


@app.command(epilog="Example: pgqrs message read my_queue --count 5 --lock-time 30")
def read(
    context: typer.Context,
    queue: Queue,
    *,
    count: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many, max_batch_size at most.")
    ] = 1,
    lock_time: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How long to lease them; else the queue's."),
    ] = None,
) -> None:
    """Lease due messages and print them; they come back when the lease runs out."""
    from pgqrs.consumer import Consumer

    options = options_of(context)
    with Consumer(options.config(), queue) as consumer:
        messages = consumer.dequeue_batch(count, lock_time)
        options.output.many(messages, _COLUMNS, "no message is due")
        consumer.close(release=False)


@app.command(epilog="Example: pgqrs message show 17")
def show(
    context: typer.Context,
    message_id: Annotated[int, typer.Argument(metavar="ID", help="The id of the message.")],
) -> None:
    """Show a message with its state, wherever it is: in its queue or in the archive."""
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.get_message(message_id))


@app.command(epilog="Example: pgqrs message cancel 17 18")
def cancel(context: typer.Context, ids: MessageIds) -> None:
    """Finish messages as cancelled, leased ones too; the archive keeps them."""
    _decide(context, ids, "cancelled", lambda admin: admin.cancel_messages)


@app.command(epilog="Example: pgqrs message resume 17 18")
def resume(context: typer.Context, ids: MessageIds) -> None:
    """Let cancelled messages wait again, as if never tried."""
    _decide(context, ids, "resumed", lambda admin: admin.resume_messages)


@app.command(epilog="Example: pgqrs message retry 17 18")
def retry(context: typer.Context, ids: MessageIds) -> None:
    """Let failed and dead messages wait again, for one more attempt."""
    _decide(context, ids, "retried", lambda admin: admin.retry_messages)


def _decide(
    context: typer.Context,
    ids: list[int],
    then: str,
    act: Callable[[Admin], Callable[[Any], list[bool] | None]],
) -> None:
    options = options_of(context)
    with options.admin() as admin:
        # Of one message alone the library says why it cannot be.
        done = act(admin)(ids if len(ids) > 1 else ids[0]) or [True]
    results = [{"id": key, then: was} for key, was in zip(ids, done, strict=True)]
    options.output.many(results, ("id", then), "")
    if not all(done):
        raise typer.Exit(1)


def _json_text(text: str | bytes) -> str | bytes:
    try:
        json.loads(text)
    except RecursionError:
        pass  # the library says how deep is too deep
    except ValueError as error:
        raise PayloadError(
            f"the payload is not JSON text ({error}): quote it for the shell, and a plain"
            """ string twice, as in '"text"'"""
        ) from error
    return text
