"""The commands for the schema: install, uninstall, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from pgqrs.cli.failures import confirm
from pgqrs.cli.options import options_of

__all__ = ["app"]

app = typer.Typer()

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL, and execute nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command(epilog="Example: pgqrs install --dry-run")
def install(context: typer.Context, *, dry_run: DryRun = False) -> None:
    """Create the pgqrs tables, or bring them to this version. Safe to repeat."""
    options = options_of(context)
    with options.admin() as admin:
        sql = admin.install(dry_run)
        schema = admin.binding.schema
    if dry_run:
        options.output.done(sql.rstrip(), schema=schema, sql=sql)
    else:
        options.output.done(
            f"the pgqrs tables in schema {schema!r} are up to date", schema=schema, installed=True
        )


@app.command(epilog="Example: pgqrs uninstall --yes")
def uninstall(context: typer.Context, *, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Drop the pgqrs tables with all queues, messages and history."""
    options = options_of(context)
    with options.admin() as admin:
        schema = admin.binding.schema
        question = f"drop the pgqrs tables in schema {schema!r} with all messages and history?"
        confirm(question, yes=yes or dry_run)
        sql = admin.uninstall(dry_run)
    if dry_run:
        said = sql.rstrip() or f"-- nothing is installed in schema {schema!r}"
        options.output.done(said, schema=schema, sql=sql)
    else:
        said = "the pgqrs tables in schema {!r} are gone" if sql else "schema {!r} held none"
        options.output.done(said.format(schema), schema=schema, dropped=bool(sql))


@app.command(epilog="Example: pgqrs verify --format json")
def verify(context: typer.Context) -> None:
    """Compare the tables with what this version needs; exits with 1 if one is not usable."""
    from pgqrs.call import call
    from pgqrs.migrations import installed

    options = options_of(context)
    with options.admin() as admin:
        schema = admin.binding.schema
        findings = admin.verify()
        found = None if findings else admin.binding.run(call(installed, schema))
    record = f" (revision {found.revision}, kept by {found.keeper})" if found else ""
    good = f"the pgqrs tables in schema {schema!r} are what this version needs{record}"
    options.output.many(findings, ("severity", "message", "remedy"), good)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)
