"""The commands for queues: create, list, get, metrics, purge, delete, update, pause, resume."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from pgqrs.cli import metrics as measured
from pgqrs.cli.failures import UsageError, confirm
from pgqrs.cli.options import options_of
from pgqrs.cli.render import counted, field_names
from pgqrs.cli.taking import taking
from pgqrs.policy import QueuePolicy

__all__ = ["app"]

app = typer.Typer(name="queue", help="Create, list, measure, change, empty and delete queues.")


class ArchiveModes(StrEnum):
    """The library's ArchiveMode again, which help should not have to load."""

    FULL = "full"
    META = "meta"
    NONE = "none"


Name = Annotated[str, typer.Argument(help="The name of the queue.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _seconds(name: str, help_: str) -> Any:
    return Annotated[float | None, typer.Option(name, min=0, metavar="SECONDS", help=help_)]


_OPTIONS: Final[dict[str, Any]] = {
    "visibility_timeout": _seconds(
        "--lock-time", "How long a lease lasts, unless the reader says."
    ),
    "max_attempts": Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, metavar="N", help="Leases before a message is dead."),
    ],
    "archive_mode": Annotated[
        ArchiveModes | None,
        typer.Option(
            metavar="MODE",
            help="What completed messages leave: full, meta (no contents) or none.",
        ),
    ],
    "retry_delay": _seconds("--retry-delay", "When a failed message is due again."),
    "retry_delay_max": _seconds("--retry-delay-max", "The most that retries are apart."),
    "retry_backoff": Annotated[
        bool | None,
        typer.Option("--backoff/--no-backoff", help="Whether the delay doubles with each attempt."),
    ],
    "retention": _seconds("--retention", "How long finished messages are kept."),
    "dead_letter": Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The queue that gets a copy of what dies; '' for none."),
    ],
}
_POLICY: Final = Annotated[
    QueuePolicy | None,
    typer.Option(
        metavar="POLICY",
        help="What it allows of messages with one key, for good: standard, short, singleton,"
        " stately, exclusive or fifo.",
    ),
]
_MESSAGES = ("id", "state", "priority", "attempts", "vt", "consumer_worker_id", "payload")
_COLUMNS = (
    "id",
    "queue_name",
    "paused",
    "visibility_timeout",
    "max_attempts",
    "archive_mode",
    "policy",
)


@app.command(epilog="Example: pgqrs queue create my_queue --lock-time 60 --max-attempts 3")
@taking(_OPTIONS | {"policy": _POLICY})
def create(
    context: typer.Context,
    name: Name,
    *,
    given: dict[str, Any],
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="Leave a queue of this name as it is.")
    ] = False,
) -> None:
    """Create a queue."""
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.create_queue(name, exist_ok=exist_ok, **given))


@app.command("list", epilog="Example: pgqrs queue list")
def list_(context: typer.Context) -> None:
    """List all queues, by name."""
    from pgqrs.types import QueueInfo

    options = options_of(context)
    with options.admin() as admin:
        nothing = "there are no queues: create one with `pgqrs queue create`"
        options.output.many(admin.list_queues(), _COLUMNS, nothing, field_names(QueueInfo))


@app.command(epilog="Example: pgqrs queue get my_queue")
def get(context: typer.Context, name: Name) -> None:
    """Show a queue and its defaults."""
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.get_queue(name))


@app.command(epilog="Example: pgqrs queue metrics my_queue")
def metrics(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A queue; without one, all.")] = None,
    *,
    exact: measured.Exact = False,
) -> None:
    """Count what waits, is delayed, leased (locked) and archived, in a queue or in all."""
    measured.show(options_of(context), name, exact=exact)


@app.command(epilog="Example: pgqrs queue messages my_queue --limit 20")
def messages(
    context: typer.Context,
    name: Name,
    *,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")] = 100,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="How many to pass over.")] = 0,
) -> None:
    """List messages of a queue: those that are ready, then the delayed, then the leased."""
    from pgqrs.message_info import MessageInfo

    options = options_of(context)
    with options.admin() as admin:
        found = admin.messages(name, limit, offset)
        options.output.many(found, _MESSAGES, "there are no messages", field_names(MessageInfo))


@app.command(epilog="Example: pgqrs queue purge my_queue --yes")
def purge(context: typer.Context, name: Name, *, yes: Yes = False) -> None:
    """Delete all messages that a queue has now, leased ones too; the archive stays."""
    options = options_of(context)
    with options.admin() as admin:
        confirm(f"delete all messages of queue {name!r}?", yes=yes)
        count = admin.purge_queue(name)
    options.output.done(f"deleted {counted(count, 'message')}", queue_name=name, deleted=count)


@app.command(epilog="Example: pgqrs queue delete my_queue --force --yes")
def delete(
    context: typer.Context,
    name: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Delete its messages and history too.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a queue; refused while it has messages or history, unless forced."""
    options = options_of(context)
    with options.admin() as admin:
        what = f"queue {name!r} with its messages and history" if force else f"queue {name!r}"
        confirm(f"delete {what}?", yes=yes)
        admin.delete_queue(name, force)
    options.output.done(f"queue {name!r} is deleted", queue_name=name, deleted=True)


@app.command(epilog="Example: pgqrs queue update my_queue --max-attempts 10")
@taking(_OPTIONS)
def update(context: typer.Context, name: Name, *, given: dict[str, Any]) -> None:
    """Change defaults of a queue; those not given stay."""
    options = options_of(context)
    if not given:
        raise UsageError("nothing to change: give an option", context)
    with options.admin() as admin:
        options.output.one(admin.update_queue(name, **given))


@app.command(epilog="Example: pgqrs queue pause my_queue")
def pause(context: typer.Context, name: Name) -> None:
    """Let nobody lease this queue's messages until it is resumed; adding goes on."""
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.pause_queue(name))


@app.command(epilog="Example: pgqrs queue resume my_queue")
def resume(context: typer.Context, name: Name) -> None:
    """Let this queue's messages be leased again."""
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.resume_queue(name))
