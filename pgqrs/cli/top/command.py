"""The command `pgqrs top`: live on a terminal, or once for scripts."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Final

import typer
from rich.console import Console

from pgqrs.cli.failures import UsageError
from pgqrs.cli.options import Format, Options, options_of
from pgqrs.cli.render import console, fields, present
from pgqrs.cli.signals import end_as_interrupted

__all__ = ["app"]

app = typer.Typer()

_WIDTH: Final = 160
"""Columns of a picture that goes to no terminal."""
_ENDLESS: Final = 1_000_000
"""Lines that it may have."""


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
    options = options_of(context)
    if options.format is not Format.TABLE:
        _print_document(options)
    elif once:
        _print_picture(options)
    else:
        out = console(sys.stdout)
        if not (sys.stdin.isatty() and out.is_terminal):
            raise UsageError("top needs a terminal; --once prints how things stand", context)
        _show(options, out, interval, read_only=read_only)


def _print_document(options: Options) -> None:
    from pgqrs.cli.top.watch import measure

    with options.admin() as admin:
        measured = measure(admin)
    options.output.one({**fields(measured.stats), "workers": list(measured.workers)})


def _print_picture(options: Options) -> None:
    from pgqrs.cli.top.picture import picture
    from pgqrs.cli.top.screen import blocks_of
    from pgqrs.cli.top.view import View
    from pgqrs.cli.top.watch import measure

    out = console(sys.stdout)
    with options.admin() as admin:
        view = View(0, live=False).looked(measure(admin))
    width = out.width if out.is_terminal else _WIDTH
    present(picture(view, width, _ENDLESS, blocks_of(out)))


def _show(options: Options, out: Console, interval: float, *, read_only: bool) -> None:
    from pgqrs.cli.top.screen import Screen
    from pgqrs.cli.top.view import View

    end_as_interrupted()
    with contextlib.suppress(KeyboardInterrupt), options.admin() as admin:
        Screen(admin, out, View(interval, read_only)).run(sys.stdin.fileno())
