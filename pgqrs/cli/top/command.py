"""The command `pgqrs top`: live on a terminal, or once for scripts."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from pgqrs.cli.failures import UsageError
from pgqrs.cli.options import Format, options_of
from pgqrs.cli.render import console, fields, present
from pgqrs.cli.signals import end_as_interrupted

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog="Example: pgqrs top --interval 5")
def top(
    context: typer.Context,
    *,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, metavar="SECONDS", help="How often it is measured.")
    ] = 2.0,
    read_only: Annotated[bool, typer.Option("--read-only", help="Change nothing.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Measure once, print it, and end.")] = False,
) -> None:
    """Show queues and workers live; keys pause and resume queues. q leaves.

    Once, and not live, with --once or a format for programs.
    """
    from pgqrs.cli.top.picture import picture
    from pgqrs.cli.top.screen import Screen, blocks_of
    from pgqrs.cli.top.view import View
    from pgqrs.cli.top.watch import measure

    options = options_of(context)
    out = console(sys.stdout)
    programs = options.format is not Format.TABLE
    if not (once or programs or (sys.stdin.isatty() and out.is_terminal)):
        raise UsageError("top needs a terminal; --once prints how things stand", context)
    view = View(interval, read_only, live=not once)
    with options.admin() as admin:
        if programs:
            measured = measure(admin)
            options.output.one({**fields(measured.stats), "workers": list(measured.workers)})
        elif once:
            shown = view.looked(measure(admin))
            width = out.width if out.is_terminal else 160
            present(picture(shown, width, 10_000, blocks_of(out)))
        else:
            end_as_interrupted()
            with contextlib.suppress(KeyboardInterrupt):
                Screen(admin, out, view).run(sys.stdin.fileno())
