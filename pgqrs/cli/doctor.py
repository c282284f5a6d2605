"""The command that examines everything: what is amiss, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from pgqrs.cli.options import Format, options_of
from pgqrs.cli.render import present, printable

if TYPE_CHECKING:
    from pgqrs.types import Finding

__all__ = ["app"]

app = typer.Typer()

_STYLES: Final = {"error": "bold red", "warning": "yellow", "note": "dim", "mended": "green"}


@app.command(epilog="Example: pgqrs doctor --format json")
def doctor(
    context: typer.Context,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended safely.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out notes.")] = False,
) -> None:
    """Examine server, schema, rights, tables, queues and workers; exits with 1 for an error.

    Each finding says what mends it. Warnings and notes alone are a good end. --fix moves ids past
    those in use, vacuums, renews statistics, and stops stale workers.
    """
    options = options_of(context)
    with options.admin() as admin:
        found = admin.diagnose(fix=fix)
    shown = [each for each in found if not (quiet and each.severity == "note")]
    if options.format is Format.TABLE and shown:
        present(_report(shown))
    else:
        options.output.many(shown, ("severity", "check", "message", "remedy"), "all is well")
    errors = [each for each in found if each.severity == "error" and not each.mended]
    if errors:
        raise typer.Exit(1)


def _report(findings: Sequence[Finding]) -> Table:
    """Show each finding as a sentence, with what mends it below."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for each in findings:
        severity = "mended" if each.mended else each.severity
        said = Text.assemble(printable(each.message), "\n", (f"→ {printable(each.remedy)}", "cyan"))
        table.add_row(Text(severity, _STYLES[severity]), each.check, said)
    return table
