"""The command that measures all queues: in a table, or for Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer

from pgqrs.cli import queue
from pgqrs.cli.exposition import Listen, serve

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog="Example: pgqrs metrics --listen 127.0.0.1:9187")
def metrics(
    context: typer.Context,
    *,
    exact: Annotated[bool, typer.Option("--exact", help="Count everything.")] = False,
    listen: Listen = None,
) -> None:
    """Measure all queues once; or, with --listen, whenever Prometheus asks."""
    if listen is not None:
        serve(context, listen)
    else:
        queue.metrics(context, None, exact=exact)
