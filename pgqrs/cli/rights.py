"""The commands for rights: grant, revoke."""

from __future__ import annotations

from itertools import takewhile
from typing import Annotated, Final

import typer

from pgqrs.access import Access
from pgqrs.cli.options import options_of
from pgqrs.cli.schema import DryRun

__all__ = ["app"]

app = typer.Typer()

Role = Annotated[str, typer.Argument(help="A role of the server, which is there already.")]
Wanted = Annotated[
    Access, typer.Argument(metavar="ACCESS", help="producer, consumer, admin or readonly.")
]


@app.command(epilog="Example: pgqrs grant consumer app --dry-run")
def grant(context: typer.Context, access: Wanted, role: Role, *, dry_run: DryRun = False) -> None:
    """Let a role add messages, work at them, look after queues, or look at all of it.

    Run it as the owner of the tables. Safe to repeat: do it again after an upgrade, and where
    queues got views. A role may have more than one access.
    """
    options = options_of(context)
    with options.admin() as admin:
        sql = admin.grant(access, role, dry_run=dry_run)
    notes = _notes(sql)
    said = "; ".join([f"role {role!r} may {_DOES[access]} now", *notes])
    facts = {"access": access.value, "sql": sql, "notes": notes, "granted": not dry_run}
    options.output.done(sql.rstrip() if dry_run else said, role=role, **facts)


@app.command(epilog="Example: pgqrs revoke app")
def revoke(context: typer.Context, role: Role, *, dry_run: DryRun = False) -> None:
    """Take all rights of a role on the schema, and on pgqrs's tables and views, away again."""
    options = options_of(context)
    with options.admin() as admin:
        sql = admin.revoke(role, dry_run=dry_run)
    notes = _notes(sql)
    left = "less" if notes else "nothing"
    said = "; ".join([f"role {role!r} may do {left} with the pgqrs tables now", *notes])
    facts = {"sql": sql, "notes": notes, "revoked": not dry_run}
    options.output.done(sql.rstrip() if dry_run else said, role=role, **facts)


def _notes(sql: str) -> list[str]:
    from pgqrs.operations.rights import NOTE

    first = takewhile(lambda line: line.startswith(NOTE), sql.splitlines())
    return [line.removeprefix(NOTE) for line in first]


_DOES: Final = {
    Access.PRODUCER: "produce",
    Access.CONSUMER: "consume",
    Access.ADMIN: "look after queues",
    Access.READONLY: "read everything",
}
