"""The commands for the archive: list, show, replay, export, purge and erase."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pgqrs.cli.failures import UsageError, abort, confirm
from pgqrs.cli.formats import Format
from pgqrs.cli.message import MessageIds
from pgqrs.cli.options import options_of
from pgqrs.cli.progress import counting
from pgqrs.cli.render import counted, field_names, fields
from pgqrs.cli.sending import as_json

__all__ = ["Limit", "app"]

app = typer.Typer(name="archive", help="Look at finished messages, replay, export and erase them.")

Queue = Annotated[str, typer.Argument(help="The name of the queue.")]
Status = Annotated[str | None, typer.Option(metavar="STATUS", help="Of this status only.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")]

_PAGE = 1_000

_COLUMNS = ("id", "status", "attempts", "archived_at", "error", "payload")


@app.command("list", epilog="Example: pgqrs archive list my_queue --status dead")
def list_(
    context: typer.Context,
    queue: Queue,
    *,
    status: Status = None,
    limit: Limit = 100,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="How many to pass over.")] = 0,
) -> None:
    """List finished messages of a queue, the newest first."""
    options = options_of(context)
    with options.admin() as admin:
        found = admin.archived_messages(queue, status, limit, offset)
        options.output.many(found, _COLUMNS, "nothing is archived", _fields())


@app.command(epilog="Example: pgqrs archive replay 17 18")
def replay(context: typer.Context, ids: MessageIds) -> None:
    """Enqueue finished messages as new ones; the archive keeps the old."""
    options = options_of(context)
    with options.admin() as admin:
        # Of one message alone the library says why it cannot be.
        made = admin.replay(ids) if len(ids) > 1 else [admin.replay(ids[0])]
    pairs = zip(ids, made, strict=True)
    results = [{"id": old, "replayed_as": new and new.id} for old, new in pairs]
    options.output.many(results, ("id", "replayed_as"), "")
    if None in made:
        raise typer.Exit(1)


@app.command(epilog="Example: pgqrs archive show 17")
def show(
    context: typer.Context,
    message_id: Annotated[int, typer.Argument(metavar="ID", help="The id of the message.")],
) -> None:
    """Show a finished message with all that is kept of it."""
    options = options_of(context)
    with options.admin() as admin:
        found = admin.get_message(message_id)
    if found.archived_at is None:
        abort(f"message {message_id} is not archived, but {found.state}: see `pgqrs message show`")
    options.output.one(found)


@app.command(epilog="Example: pgqrs archive export my_queue --format csv --out history.csv")
def export(context: typer.Context, queue: Queue, *, status: Status = None) -> None:
    """Print all finished messages of a queue, the oldest first: JSON lines, or CSV.

    Page by page, so that a history of any size can be exported.
    """
    options = options_of(context)
    if options.format is Format.YAML:
        raise UsageError("an export is JSON lines, or CSV with --format csv", context)
    beside = options.out is not None or not sys.stdout.isatty()
    with options.admin() as admin:
        page = admin.archived_after(queue, 0, _PAGE, status)
        with options.output.lines(_fields()) as lines, counting("exported", if_=beside) as tell:
            while page:
                for message in page:
                    lines.add(fields(message))
                tell(len(page))
                page = admin.archived_after(queue, page[-1].id, _PAGE, status)


@app.command(epilog="Example: pgqrs archive purge my_queue --older-than 2592000 --yes")
def purge(
    context: typer.Context,
    queue: Annotated[str | None, typer.Argument(help="A queue; without one, all.")] = None,
    *,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="What was archived longer ago only."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Delete the history of a queue, or of all."""
    options = options_of(context)
    whose = f"queue {queue!r}" if queue else "all queues"
    with options.admin() as admin:
        confirm(f"delete the history of {whose}?", yes=yes)
        count = admin.purge_archive(queue, older_than)
    said = f"deleted {counted(count, 'archived message')}"
    options.output.done(said, queue_name=queue, deleted=count)


@app.command(epilog="""Example: pgqrs archive erase my_queue --where '{"user": 17}' --yes""")
def erase(
    context: typer.Context,
    queue: Queue,
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID]...", help="The ids of messages.")
    ] = None,
    *,
    where: Annotated[
        str | None, typer.Option(metavar="JSON", help="Those whose payload contains this.")
    ] = None,
    yes: Yes = False,
) -> None:
    """Erase finished messages that must not be kept, by their ids or by their payload."""
    from pgqrs.payload import Json

    if bool(ids) == (where is not None):
        raise UsageError("give ids or --where, and not both", context)
    options = options_of(context)
    part = None if where is None else Json(as_json(where))
    what = f"{counted(len(ids), 'message')}" if ids else f"messages with {where}"
    with options.admin() as admin:
        confirm(f"erase {what} from the history of queue {queue!r}?", yes=yes)
        count = admin.erase_archived(queue, ids or None, containing=part)
    said = f"erased {counted(count, 'archived message')}"
    options.output.done(said, queue_name=queue, erased=count)


def _fields() -> list[str]:
    from pgqrs.types import ArchivedMessage

    return field_names(ArchivedMessage)
