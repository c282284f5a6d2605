"""The tree of commands with its global options, and the run of one command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pgqrs._version import __version__
from pgqrs.cli import (
    admin,
    alembic,
    archive,
    dlq,
    doctor,
    embedded,
    message,
    metrics,
    queue,
    rights,
    schema,
    worker,
)
from pgqrs.cli import config as settings
from pgqrs.cli.demo import command as demo
from pgqrs.cli.failures import UsageError, complain, explain_usage, status_of
from pgqrs.cli.formats import Format
from pgqrs.cli.options import Options
from pgqrs.cli.root import Root
from pgqrs.cli.streams import prepare_streams, unplug
from pgqrs.cli.top import command as top
from pgqrs.errors import PgqrsError

__all__ = ["app", "run"]

app = typer.Typer(name="pgqrs", cls=Root, pretty_exceptions_enable=False)
_PARTS = (
    schema,
    rights,
    settings,
    metrics,
    top,
    doctor,
    queue,
    message,
    archive,
    dlq,
    worker,
    admin,
)
for part in (*_PARTS, alembic, demo, embedded):
    app.add_typer(part.app)


def _print_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if asked:
        typer.echo(f"pgqrs {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Exit status: 0 done, 1 error, 2 usage or configuration, 3 database not reachable."
    "\n\nExample: pgqrs --dsn postgresql://me@localhost/app queue list"
)
def root(
    context: typer.Context,
    *,
    dsn: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The database, as a URL; else PGQRS_DSN, DATABASE_URL or the file."
        ),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The schema of the pgqrs tables; else PGQRS_SCHEMA, pgqrs."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A YAML file; else PGQRS_CONFIG_FILE, ./pgqrs.yaml."),
    ] = None,
    format: Annotated[Format, typer.Option(help="How results are printed.")] = Format.TABLE,
    out: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write results there; else on standard output."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback does it all
        bool, typer.Option("--version", callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Look after PostgreSQL job queues. The options below may also follow the command."""
    context.obj = Options(dsn, schema, config, format, out)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; gives the exit status, and prints errors as sentences."""
    prepare_streams()
    try:
        command = typer.main.get_command(app)
        status = command.main(list(arguments), prog_name="pgqrs", standalone_mode=False)
        sys.stdout.flush()
    except UsageError as error:
        explain_usage(error)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except (PgqrsError, ValueError) as error:
        complain(str(error))
        return status_of(error)
    except OSError as error:  # after QueryTimeoutError, which is one
        unplug()
        if not isinstance(error, BrokenPipeError):
            complain(f"the system refused: {error.strerror or error}")
        return 1
    return int(status or 0)
