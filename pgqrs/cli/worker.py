"""The commands for workers: look at them, steer them, clear up after them, and be one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pgqrs.cli.failures import confirm
from pgqrs.cli.options import Options, options_of
from pgqrs.cli.render import counted, field_names
from pgqrs.cli.run import run

if TYPE_CHECKING:
    from pgqrs.worker import WorkerHandle

__all__ = ["app"]

app = typer.Typer(name="worker", help="List, steer and clear up workers, and be one.")

app.command(
    "run",
    epilog="Example: pgqrs worker run app.jobs:work --queue emails --queue reports --processes 4",
)(run)

WorkerId = Annotated[int, typer.Argument(metavar="ID", help="The id of the worker.")]
OfQueue = Annotated[str | None, typer.Option("--queue", help="Of this queue only.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="How old a heartbeat may be; else the setting's."),
]

_COLUMNS = ("id", "queue_id", "role", "status", "hostname", "port", "pid", "heartbeat_at")
_OF_HEALTH = ("healthy", "heartbeat_age", "held_messages")
_HEALTH = ("id", "role", "status", "hostname", *_OF_HEALTH)
_STATS = (
    "queue_name",
    "total_workers",
    "ready_workers",
    "suspended_workers",
    "stopped_workers",
    "stale_workers",
    "held_messages",
)


@app.command("list", epilog="Example: pgqrs worker list --queue my_queue")
def list_(context: typer.Context, *, queue: OfQueue = None) -> None:
    """List the workers, stopped ones too."""
    from pgqrs.types import WorkerInfo

    options = options_of(context)
    with options.admin() as admin:
        found = admin.workers(queue)
        options.output.many(found, _COLUMNS, "there are no workers", field_names(WorkerInfo))


@app.command(epilog="Example: pgqrs worker get 17")
def get(context: typer.Context, worker_id: WorkerId) -> None:
    """Show one worker."""
    from pgqrs.tables import Workers

    options = options_of(context)
    with Workers(options.config()) as workers:
        options.output.one(workers.get(worker_id))


@app.command(epilog="Example: pgqrs worker stats my_queue")
def stats(
    context: typer.Context,
    queue: Annotated[str | None, typer.Argument(help="One queue; else all.")] = None,
) -> None:
    """Count the workers of a queue, or of each."""
    options = options_of(context)
    with options.admin() as admin:
        if queue is None:
            options.output.many(admin.worker_management(), _STATS, "there are no queues")
        else:
            options.output.one(admin.worker_stats(queue))


@app.command(epilog="Example: pgqrs worker health --timeout 60")
def health(context: typer.Context, *, timeout: Timeout = None, queue: OfQueue = None) -> None:
    """Say of each worker that is not stopped how lately it was alive."""
    import dataclasses

    from pgqrs.types import WorkerInfo

    options = options_of(context)
    with options.admin() as admin:
        found = admin.worker_health(timeout, queue)
    rows = [
        {
            **dataclasses.asdict(each.worker),
            **{name: getattr(each, name) for name in _OF_HEALTH},
        }
        for each in found
    ]
    every = [*field_names(WorkerInfo), *_OF_HEALTH]
    options.output.many(rows, _HEALTH, "no worker is at work", every)


@app.command(epilog="Example: pgqrs worker suspend 17")
def suspend(context: typer.Context, worker_id: WorkerId) -> None:
    """Have a worker lease no more; what it holds it may finish."""
    options = options_of(context)
    with _handle(options, worker_id) as worker:
        worker.suspend()
    _done(options, worker_id, "suspended")


@app.command(epilog="Example: pgqrs worker resume 17")
def resume(context: typer.Context, worker_id: WorkerId) -> None:
    """Have a suspended worker lease again."""
    options = options_of(context)
    with _handle(options, worker_id) as worker:
        worker.resume()
    _done(options, worker_id, "ready")


@app.command(epilog="Example: pgqrs worker shutdown 17 --release")
def shutdown(
    context: typer.Context,
    worker_id: WorkerId,
    *,
    release: Annotated[
        bool, typer.Option("--release", help="Give back what it holds, at no attempt's cost.")
    ] = False,
) -> None:
    """Stop a suspended worker for good."""
    options = options_of(context)
    with _handle(options, worker_id) as worker:
        worker.shutdown(release=release)
    _done(options, worker_id, "stopped")


@app.command(epilog="Example: pgqrs worker heartbeat 17")
def heartbeat(context: typer.Context, worker_id: WorkerId) -> None:
    """Say that a worker is alive, in its place."""
    options = options_of(context)
    with _handle(options, worker_id) as worker:
        worker.heartbeat()
        status = worker.status()
    _done(options, worker_id, status.value)


@app.command(epilog="Example: pgqrs worker release 17")
def release(context: typer.Context, worker_id: WorkerId, *, yes: Yes = False) -> None:
    """Make what a worker holds due now, whoever it is; attempts count."""
    options = options_of(context)
    confirm(f"Take the messages of worker {worker_id} from it?", yes=yes)
    with options.admin() as admin:
        ids = admin.release_worker_messages(worker_id)
    options.output.done(f"made {counted(len(ids), 'message')} due", message_ids=ids)


@app.command(epilog="Example: pgqrs worker reclaim --queue my_queue --older-than 120")
def reclaim(
    context: typer.Context,
    *,
    queue: OfQueue = None,
    older_than: Timeout = None,
    yes: Yes = False,
) -> None:
    """Stop workers that gave no sign of life, and make what they hold due now."""
    options = options_of(context)
    confirm("Stop workers that gave no sign of life?", yes=yes)
    with options.admin() as admin:
        ids = admin.reclaim_messages(queue, older_than)
    options.output.done(f"made {counted(len(ids), 'message')} due", message_ids=ids)


@app.command(epilog="Example: pgqrs worker purge --older-than 86400 --yes")
def purge(
    context: typer.Context,
    *,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long without a sign of life.")
    ] = 86_400,
    yes: Yes = False,
) -> None:
    """Delete the rows of workers that are long gone and hold nothing."""
    options = options_of(context)
    confirm("Delete the rows of workers that are long gone?", yes=yes)
    with options.admin() as admin:
        count = admin.purge_workers(older_than)
    options.output.done(f"deleted {counted(count, 'worker')}", deleted=count)


@app.command(epilog="Example: pgqrs worker delete 17 --yes")
def delete(context: typer.Context, worker_id: WorkerId, *, yes: Yes = False) -> None:
    """Delete the row of a stopped worker that holds nothing."""
    options = options_of(context)
    confirm(f"Delete the row of worker {worker_id}?", yes=yes)
    with options.admin() as admin:
        admin.delete_worker(worker_id)
    options.output.done(f"deleted worker {worker_id}", worker_id=worker_id)


def _handle(options: Options, worker_id: int) -> WorkerHandle:
    from pgqrs.worker import WorkerHandle

    return WorkerHandle(options.config(), worker_id)


def _done(options: Options, worker_id: int, status: str) -> None:
    sentence = f"worker {worker_id} is {status}"
    options.output.done(sentence, worker_id=worker_id, status=status)
