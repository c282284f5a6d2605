"""The command that runs the embedded development server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pgqrs.cli.failures import UsageError
from pgqrs.cli.options import options_of
from pgqrs.cli.render import console
from pgqrs.cli.signals import end_as_interrupted
from pgqrs.errors import EmbeddedPostgresError

if TYPE_CHECKING:
    from pgqrs.embedded import EmbeddedPostgres

__all__ = ["app", "server"]

app = typer.Typer()


@app.command(epilog="Example: pgqrs embedded --data ./pgdata --set max_connections=200")
def embedded(
    context: typer.Context,
    *,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Keep the data here; else they are temporary."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A PostgreSQL setting; repeatable."),
    ] = None,
) -> None:
    """Run a PostgreSQL server for development, print its DSN, and serve until Ctrl-C."""
    split = [setting.partition("=") for setting in settings or ()]
    pairs = {name: value for name, _, value in split}
    if not all(name and value for name, value in pairs.items()):
        raise UsageError("--set takes NAME=VALUE", context)
    end_as_interrupted()
    try:
        with server(data, pairs) as running:
            options_of(context).output.done(running.dsn(), dsn=running.dsn())
            sys.stdout.flush()
            console(sys.stderr).print("serving until Ctrl-C", style="dim")
            running.wait()
    except KeyboardInterrupt:
        raise typer.Exit from None


def server(data: str | None = None, settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
    """Give the server, not started. Raises EmbeddedPostgresError on an unsupported system."""
    try:
        from pgqrs.embedded import EmbeddedPostgres
    except ImportError as error:
        raise EmbeddedPostgresError(str(error)) from error
    return EmbeddedPostgres(data, settings=settings)
