"""The command for settings: show."""

from __future__ import annotations

import sys

import typer

from pgqrs.cli.options import options_of
from pgqrs.cli.render import console

__all__ = ["app"]

app = typer.Typer(name="config", help="See the settings.")


@app.callback()
def config() -> None:
    """See the settings."""


@app.command(epilog="Example: pgqrs config show --config pgqrs.yaml")
def show(context: typer.Context) -> None:
    """Show each setting with where it comes from; passwords are hidden. Needs no database."""
    from pgqrs.config import Config

    options = options_of(context)
    settings = Config.explain(options.dsn, options.config_file, options.schema)
    for name in Config.strange_variables():
        console(sys.stderr).print(f"note: {name} is the name of no setting", style="dim")
    options.output.many(settings, ("name", "value", "origin"), "")
