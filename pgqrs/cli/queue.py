"""The commands for queues: create, list, get, metrics, purge, delete, update, pause, resume."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from pgqrs.cli.failures import UsageError, confirm
from pgqrs.cli.options import options_of
from pgqrs.cli.render import counted

__all__ = ["app"]

app = typer.Typer(name="queue", help="Create, list, measure, change, empty and delete queues.")


class ArchiveModes(StrEnum):
    """The library's ArchiveMode again, which help should not have to load."""

    FULL = "full"
    META = "meta"
    NONE = "none"


Name = Annotated[str, typer.Argument(help="The name of the queue.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LockTime = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="How long a lease lasts, unless the reader says."),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(min=1, max=1_000_000, metavar="N", help="Leases before a message is dead."),
]
Mode = Annotated[
    ArchiveModes | None,
    typer.Option(
        metavar="MODE",
        help="What completed messages leave: full, meta (no contents) or none.",
    ),
]
RetryDelay = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="When a failed message is due again.")
]
RetryDelayMax = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="The most that retries are apart.")
]
RetryBackoff = Annotated[
    bool | None,
    typer.Option("--backoff/--no-backoff", help="Whether the delay doubles with each attempt."),
]
Retention = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="How long finished messages are kept."),
]
DeadLetter = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The queue that gets a copy of what dies; '' for none."),
]
Exact = Annotated[bool, typer.Option("--exact", help="Count beyond 10,000.")]

_COLUMNS = ("id", "queue_name", "paused", "visibility_timeout", "max_attempts", "archive_mode")
_METRICS = ("queue_name", "paused", "pending", "delayed", "locked", "archived")
_OLDEST = ("oldest_pending_age",)
_TOTAL = ("total_messages", "oldest_pending_at")


@app.command(epilog="Example: pgqrs queue create my_queue --lock-time 60 --max-attempts 3")
def create(
    context: typer.Context,
    name: Name,
    *,
    lock_time: LockTime = None,
    max_attempts: MaxAttempts = None,
    archive_mode: Mode = None,
    retry_delay: RetryDelay = None,
    retry_delay_max: RetryDelayMax = None,
    retry_backoff: RetryBackoff = None,
    retention: Retention = None,
    dead_letter: DeadLetter = None,
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="Leave a queue of this name as it is.")
    ] = False,
) -> None:
    """Create a queue."""
    options = options_of(context)
    changes = _given(
        visibility_timeout=lock_time,
        max_attempts=max_attempts,
        archive_mode=archive_mode,
        retry_delay=retry_delay,
        retry_delay_max=retry_delay_max,
        retry_backoff=retry_backoff,
        retention=retention,
        dead_letter=dead_letter,
    )
    with options.admin() as admin:
        options.output.one(admin.create_queue(name, exist_ok=exist_ok, **changes))


@app.command("list", epilog="Example: pgqrs queue list")
def list_(context: typer.Context) -> None:
    """List all queues, by name."""
    options = options_of(context)
    with options.admin() as admin:
        nothing = "there are no queues: create one with `pgqrs queue create`"
        options.output.many(admin.list_queues(), _COLUMNS, nothing)


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
    exact: Exact = False,
) -> None:
    """Count what waits, is delayed, leased (locked) and archived, in a queue or in all."""
    options = options_of(context)
    with options.admin() as admin:
        if name is not None:
            found = admin.queue_metrics(name, exact=exact)
            options.output.one(found, (*_METRICS, *_TOTAL, *_OLDEST, "unhandled_types"))
        else:
            every = admin.all_queues_metrics(exact=exact)
            options.output.many(every, (*_METRICS, *_OLDEST), "there are no queues")


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
def update(
    context: typer.Context,
    name: Name,
    *,
    lock_time: LockTime = None,
    max_attempts: MaxAttempts = None,
    archive_mode: Mode = None,
    retry_delay: RetryDelay = None,
    retry_delay_max: RetryDelayMax = None,
    retry_backoff: RetryBackoff = None,
    retention: Retention = None,
    dead_letter: DeadLetter = None,
) -> None:
    """Change defaults of a queue; those not given stay."""
    options = options_of(context)
    changes = _given(
        visibility_timeout=lock_time,
        max_attempts=max_attempts,
        archive_mode=archive_mode,
        retry_delay=retry_delay,
        retry_delay_max=retry_delay_max,
        retry_backoff=retry_backoff,
        retention=retention,
        dead_letter=dead_letter,
    )
    if not changes:
        raise UsageError("nothing to change: give an option", context)
    with options.admin() as admin:
        options.output.one(admin.update_queue(name, **changes))


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


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
