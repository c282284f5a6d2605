"""The command that measures queues: all of them, or one as `queue metrics` does."""

from __future__ import annotations

from typing import Annotated

import typer

from pgqrs.cli.exposition import Listen, serve
from pgqrs.cli.options import Options, options_of
from pgqrs.cli.render import field_names

__all__ = ["Exact", "app", "show"]

app = typer.Typer()

Exact = Annotated[bool, typer.Option("--exact", help="Count beyond 10,000.")]

_METRICS = ("queue_name", "paused", "pending", "delayed", "locked", "archived")
_OLDEST = ("oldest_pending_age",)
_RATES = ("dead", "rate_in", "rate_out")
_TOTAL = ("total_messages", "oldest_pending_at")


@app.command(epilog="Example: pgqrs metrics --listen 127.0.0.1:9187")
def metrics(context: typer.Context, *, exact: Exact = False, listen: Listen = None) -> None:
    """Measure all queues once; or, with --listen, whenever Prometheus asks."""
    if listen is not None:
        serve(context, listen)
    else:
        show(options_of(context), None, exact=exact)


def show(options: Options, name: str | None, *, exact: bool) -> None:
    """Print the measures of a queue, or of all."""
    from pgqrs.queue_metrics import QueueMetrics

    with options.admin() as admin:
        if name is not None:
            one = admin.queue_metrics(name, exact=exact)
            options.output.one(one, (*_METRICS, *_TOTAL, *_RATES, *_OLDEST, "unhandled_types"))
        else:
            found = admin.all_queues_metrics(exact=exact)
            columns, every = (*_METRICS, *_RATES, *_OLDEST), field_names(QueueMetrics)
            options.output.many(found, columns, "there are no queues", every)
