"""The commands for what is not one queue's nor one worker's: sums, maintenance, reclaiming."""

from __future__ import annotations

import typer

from pgqrs.cli.metrics import Exact
from pgqrs.cli.options import options_of
from pgqrs.cli.worker import reclaim

__all__ = ["app"]

_STATS = (
    *("schema", "revision", "database", "server_version", "queues", "paused_queues"),
    *("pending", "delayed", "locked", "total_messages", "archived", "dead"),
    *("oldest_pending_age", "rate_in", "rate_out"),
    *("ready_workers", "suspended_workers", "stopped_workers", "stale_workers"),
)

app = typer.Typer(name="admin", help="Look after all queues at once.")


@app.callback()
def admin() -> None:
    """Look after all queues at once."""


app.command("reclaim", epilog="Example: pgqrs admin reclaim --older-than 120 --yes")(reclaim)


@app.command(epilog="Example: pgqrs admin stats")
def stats(context: typer.Context, *, exact: Exact = False) -> None:
    """Count all queues, their workers and messages."""
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.system_stats(exact=exact), _STATS)


@app.command(epilog="Example: pgqrs admin maintain")
def maintain(context: typer.Context) -> None:
    """Do one round of what running workers do by themselves every few minutes.

    Buries messages whose last attempt ran out, lets those wait again that lost their worker,
    deletes history older than its queue's retention and rows of workers long gone, and vacuums.
    """
    options = options_of(context)
    with options.admin() as admin:
        options.output.one(admin.maintain())


@app.command(name="bump-ids", epilog="Example: pgqrs admin bump-ids")
def bump_ids(context: typer.Context) -> None:
    """Go on with ids past the highest in use, after a restore of the rows alone."""
    options = options_of(context)
    with options.admin() as admin:
        moved = admin.bump_ids()
    each = ", ".join(f"{table} goes on after {highest:,}" for table, highest in moved.items())
    options.output.done(each or "all ids go on after those in use", **moved)
