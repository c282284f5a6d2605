"""The commands for messages: send, read, show, cancel, resume, retry; see also `handover`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgqrs.cli import reading
from pgqrs.cli.handover import add_to
from pgqrs.cli.message_options import taking_message_options
from pgqrs.cli.options import options_of
from pgqrs.cli.sending import opened, send_from

if TYPE_CHECKING:
    from pgqrs.admin import Admin

__all__ = ["MessageIds", "app"]

app = typer.Typer(name="message", help="Send, read and show messages, and decide on single ones.")

Queue = Annotated[str, typer.Argument(help="The name of the queue.")]

Payload = Annotated[str | None, typer.Argument(help="JSON text, or - for standard input.")]
File = Annotated[Path | None, typer.Option(metavar="FILE", help="Read the payload there.")]
Ndjson = Annotated[bool, typer.Option("--ndjson", help="Each line is the payload of a message.")]
MessageIds = Annotated[
    list[int], typer.Argument(metavar="ID...", min=1, max=2**63 - 1, help="The ids of messages.")
]


@app.command(epilog="""Example: pgqrs message send my_queue '{"task": "process", "id": 123}'""")
@taking_message_options
def send(
    context: typer.Context,
    queue: Queue,
    payload: Payload = None,
    *,
    file: File = None,
    ndjson: Ndjson = False,
    given: dict[str, Any],
) -> None:
    """Add a message to a queue, or one for each line."""
    with opened(context, payload, file) as source:
        send_from(source, options_of(context), queue, lines=ndjson, **given)


@app.command(epilog="Example: pgqrs message read my_queue --count 5 --lock-time 30")
def read(
    context: typer.Context,
    queue: Queue,
    *,
    count: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="How many; 1, and max_batch_size at most, unless following."
        ),
    ] = None,
    lock_time: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How long to lease them; else the queue's."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for more, until Ctrl-C or as many as --count.")
    ] = False,
) -> None:
    """Lease due messages and print them; they come back when the lease runs out."""
    options = options_of(context)
    if follow:
        reading.follow(options, queue, count, lock_time)
    else:
        reading.read_now(options, queue, count or 1, lock_time)


add_to(app)


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
