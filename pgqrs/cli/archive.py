"""The commands for the archive: list and replay."""

from __future__ import annotations

from typing import Annotated

import typer

from pgqrs.cli.message import MessageIds
from pgqrs.cli.options import options_of

__all__ = ["Limit", "app"]

app = typer.Typer(name="archive", help="Look at finished messages, and enqueue them again.")

Limit = Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")]

_COLUMNS = ("id", "status", "attempts", "archived_at", "error", "payload")


@app.command("list", epilog="Example: pgqrs archive list my_queue --status dead")
def list_(
    context: typer.Context,
    queue: Annotated[str, typer.Argument(help="The name of the queue.")],
    *,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Of this status only.")
    ] = None,
    limit: Limit = 100,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="How many to pass over.")] = 0,
) -> None:
    """List finished messages of a queue, the newest first."""
    options = options_of(context)
    with options.admin() as admin:
        found = admin.archived_messages(queue, status, limit, offset)
        options.output.many(found, _COLUMNS, "nothing is archived")


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
