"""The commands for dead letter queues: list, replay, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgqrs.cli.archive import Limit
from pgqrs.cli.failures import abort, confirm
from pgqrs.cli.options import options_of
from pgqrs.cli.render import counted, field_names, fields

if TYPE_CHECKING:
    from pgqrs.admin import Admin
    from pgqrs.message_info import MessageInfo

__all__ = ["app"]

app = typer.Typer(name="dlq", help="Look at dead letters, send them back, and empty their queues.")

Name = Annotated[str, typer.Argument(help="The name of the dead letter queue.")]

_OF_LETTERS = ("died_in", "died_as")
_COLUMNS = ("id", "state", *_OF_LETTERS, "enqueued_at", "error", "payload")


@app.command("list", epilog="Example: pgqrs dlq list my_dead_letters")
def list_(context: typer.Context, queue: Name, *, limit: Limit = 100) -> None:
    """List the messages of a dead letter queue, with where they died, as which message, and why."""
    from pgqrs.message_info import MessageInfo

    options = options_of(context)
    with options.admin() as admin:
        letters = [_letter(message) for message in admin.messages(queue, limit)]
        every = [*field_names(MessageInfo), *_OF_LETTERS]
        options.output.many(letters, _COLUMNS, "there are no dead letters", every)


@app.command(epilog="Example: pgqrs dlq replay my_dead_letters --limit 10")
def replay(context: typer.Context, queue: Name, *, limit: Limit = 100) -> None:
    """Move waiting dead letters back to the queues they came from, with all attempts anew."""
    options = options_of(context)
    with options.admin() as admin:
        count = admin.replay_dead_letters(queue, limit)
    sentence = f"{counted(count, 'dead letter')} moved back"
    options.output.done(sentence, queue_name=queue, replayed=count)


@app.command(epilog="Example: pgqrs dlq purge my_dead_letters --yes")
def purge(
    context: typer.Context,
    queue: Name,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete all messages of a dead letter queue; refused for any other queue."""
    options = options_of(context)
    with options.admin() as admin:
        _check_is_one(admin, queue)
        confirm(f"delete all dead letters of {queue!r}?", yes=yes)
        count = admin.purge_queue(queue)
    options.output.done(f"deleted {counted(count, 'message')}", queue_name=queue, deleted=count)


def _letter(message: MessageInfo) -> dict[str, Any]:
    origin = ((message.headers or {}).get("pgqrs") or {}).get("dead_letter_of") or {}
    return {**fields(message), "died_in": origin.get("queue"), "died_as": origin.get("id")}


def _check_is_one(admin: Admin, queue: str) -> None:
    admin.get_queue(queue)
    if all(other.dead_letter != queue for other in admin.list_queues()):
        abort(f"queue {queue!r} is nobody's dead letter queue: empty it with `pgqrs queue purge`")
