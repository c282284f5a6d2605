"""The commands that end messages read before: archive, delete, release, extend; and count."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pgqrs.cli.failures import abort, confirm
from pgqrs.cli.options import options_of
from pgqrs.cli.render import counted

if TYPE_CHECKING:
    from pgqrs.handover import Handover, Lease

__all__ = ["add_to"]

Queue = Annotated[str, typer.Argument(help="The name of the queue.")]
Named = Annotated[
    list[str],
    typer.Argument(
        metavar="MESSAGE...", help="Ids, or leases as `message read` prints them; - for lines."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Also what somebody else holds.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to those for messages."""
    app.command(epilog="Example: pgqrs message archive my_queue 17 18:42:1")(archive)
    app.command(epilog="Example: pgqrs message delete my_queue 17 --yes")(delete)
    app.command(epilog="Example: pgqrs message release my_queue 17")(release)
    app.command(epilog="Example: pgqrs message extend my_queue 17:42:1 --by 60")(extend)
    app.command(epilog="Example: pgqrs message count my_queue")(count)


def archive(context: typer.Context, queue: Queue, messages: Named, *, force: Force = False) -> None:
    """Finish messages as completed: those that were read before, or that nobody holds."""
    leases = _leases(messages)
    _act(context, queue, leases, "archived", lambda over: over.archive(leases, force=force))


def delete(
    context: typer.Context,
    queue: Queue,
    messages: Named,
    *,
    force: Force = False,
    yes: Yes = False,
) -> None:
    """Delete messages without a trace: those that were read before, or that nobody holds."""
    leases = _leases(messages)
    confirm(f"delete {counted(len(leases), 'message')} of queue {queue!r}?", yes=yes)
    _act(context, queue, leases, "deleted", lambda over: over.delete(leases, force=force))


def release(context: typer.Context, queue: Queue, messages: Named, *, force: Force = False) -> None:
    """Make messages due now; the end of a lease costs no attempt."""
    leases = _leases(messages)
    _act(context, queue, leases, "released", lambda over: over.release(leases, force=force))


def extend(
    context: typer.Context,
    queue: Queue,
    messages: Named,
    *,
    by: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long from now they stay leased.")
    ],
) -> None:
    """Push the ends of leases out."""
    leases = _leases(messages)
    _act(context, queue, leases, "extended", lambda over: over.extend(leases, by))


def count(context: typer.Context, queue: Queue) -> None:
    """Count the messages of a queue exactly, without the archive."""
    from pgqrs.tables import Messages

    options = options_of(context)
    with options.admin() as admin, Messages(admin) as messages:
        number = messages.count_by_fk(admin.get_queue(queue).id)
    options.output.done(str(number), queue_name=queue, count=number)


def _leases(words: list[str]) -> list[Lease]:
    from pgqrs.handover import Lease

    given: list[str] = []
    for word in words:
        given += sys.stdin.read().split() if word == "-" else [word]
    return [Lease.parse(word) for word in given]


def _act(
    context: typer.Context,
    queue: str,
    leases: list[Lease],
    then: str,
    act: Callable[[Handover], list[str | None]],
) -> None:
    from pgqrs.handover import Handover

    options = options_of(context)
    with Handover(options.config(), queue) as over:
        refusals = act(over)
    if len(refusals) == 1 and refusals[0] is not None:
        abort(refusals[0])
    results = [
        {"id": lease.message_id, then: why is None, "why_not": why}
        for lease, why in zip(leases, refusals, strict=True)
    ]
    options.output.many(results, ("id", then, "why_not"), "no message was named")
    if any(refusals):
        raise typer.Exit(1)
