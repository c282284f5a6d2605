"""The commands for applications with an Alembic history of their own: init, adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgqrs.cli.options import options_of

__all__ = ["app"]

app = typer.Typer(name="alembic", help="Have the tables in your application's Alembic history.")


@app.callback()
def alembic() -> None:
    """Have the tables in your application's Alembic history."""


@app.command(epilog="Example: pgqrs alembic init --write")
def init(
    context: typer.Context,
    *,
    write: Annotated[
        bool, typer.Option("--write", help="Change env.py, not only show it.")
    ] = False,
    ini: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Else ALEMBIC_CONFIG, ./alembic.ini, ./pyproject.toml."),
    ] = None,
    filters: Annotated[
        bool, typer.Option("--filters", help="Use include_object, not the plugin.")
    ] = False,
) -> None:
    """Show what env.py and a first revision need; needs no database."""
    from pgqrs.cli.wiring import wire

    options = options_of(context)
    schema = options.config(default_dsn="postgresql://localhost").schema_
    wired = wire(ini, schema, filters=filters)
    if write:
        wired.env.write_bytes(wired.text.encode())
    facts = {"env": str(wired.env), "change": wired.change, "written": write, "next": wired.steps}
    options.output.done(wired.told(written=write), **facts)


@app.command(epilog="Example: pgqrs alembic adopt")
def adopt(
    context: typer.Context,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Hand the tables back.")] = False,
    version_table: Annotated[
        str, typer.Option(metavar="NAME", help="The version table of your application.")
    ] = "alembic_version",
) -> None:
    """Hand tables that `pgqrs install` made to your application's history, with all they hold."""
    from pgqrs import migrations
    from pgqrs.call import Call

    options = options_of(context)
    with options.admin() as admin:
        schema = admin.binding.schema
        admin.binding.run(
            Call(
                lambda connection: migrations.adopt(
                    connection, schema, version_table=version_table, undo=undo
                ),
                changes=True,
                together=True,
            )
        )
    keeper = "`pgqrs install`" if undo else "your application's revisions"
    said = f"the pgqrs tables in schema {schema!r} are kept by {keeper} from now on"
    options.output.done(said, schema=schema, kept_by="install" if undo else "revision")
