"""The `demo` command: its database, its queue, its outcome."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from pgqrs.cli.embedded import server
from pgqrs.cli.failures import complain
from pgqrs.cli.options import Options, options_of
from pgqrs.cli.signals import end_as_interrupted
from pgqrs.errors import MissingConfigError, UnavailableError

if TYPE_CHECKING:
    from pgqrs.admin import Admin
    from pgqrs.cli.demo.display import Display
    from pgqrs.cli.demo.verdict import Verdict
    from pgqrs.types import QueueInfo

__all__ = ["app"]

app = typer.Typer()


@app.command(epilog="Example: pgqrs demo --consumers 4 --limit 500")
def demo(
    context: typer.Context,
    *,
    consumers: Annotated[
        int, typer.Option(min=1, max=50, metavar="N", help="How many processes.")
    ] = 3,
    limit: Annotated[
        int | None,
        typer.Option(min=10, metavar="N", help="At most so many files; else all of them."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the queue and its archive in your database.")
    ] = False,
) -> None:
    """Parse Python's own source files with several consumers, and kill one of them midway.

    Starts a temporary server if no database is named. Exits with 0 if every file is archived once.
    """
    options = options_of(context)
    end_as_interrupted()
    verdict = _perform(options, consumers, limit, keep=keep)
    if options.output.for_programs:
        options.output.one(verdict)
    else:
        from pgqrs.cli.demo.report import report

        report(verdict)
    for problem in verdict.problems:
        complain(problem)
    raise typer.Exit(1 if verdict.problems else 0)


def _perform(options: Options, consumers: int, limit: int | None, *, keep: bool) -> Verdict:
    from pgqrs.cli.demo.display import display_on
    from pgqrs.cli.demo.source import source_files
    from pgqrs.cli.demo.stage import Stage

    with contextlib.ExitStack() as stack:
        display = display_on(sys.stderr if options.output.for_programs else sys.stdout)
        stack.enter_context(display)
        admin = stack.enter_context(_admin(options, display, keep=keep))
        queue = stack.enter_context(_queue_of_its_own(admin, keep=keep))
        return Stage(admin, queue, display).play(source_files()[:limit], consumers)


@contextlib.contextmanager
def _admin(options: Options, display: Display, *, keep: bool) -> Iterator[Admin]:
    from pgqrs.admin import Admin

    with contextlib.ExitStack() as stack:
        try:
            config = options.config()
        except MissingConfigError:
            if keep or options.config_file:  # which ask for a database of the user's
                raise
            running = stack.enter_context(server())
            config = options.config(default_dsn=running.dsn())
            admin = stack.enter_context(Admin(config))
            admin.install()
            display.tell(f"started a temporary PostgreSQL {running.version}, with pgqrs installed")
        else:
            admin = stack.enter_context(Admin(config))
        yield admin


@contextlib.contextmanager
def _queue_of_its_own(admin: Admin, *, keep: bool) -> Iterator[QueueInfo]:
    from pgqrs.cli.demo.stage import VISIBILITY_SECONDS

    name = f"demo_{uuid.uuid4().hex[:8]}"
    # A slow machine may let leases run out; no message is to die of that.
    queue = admin.create_queue(name, visibility_timeout=VISIBILITY_SECONDS, max_attempts=20)
    try:
        yield queue
    finally:
        if not keep:
            with contextlib.suppress(UnavailableError):  # what stopped the server is told already
                admin.delete_queue(name, force=True)
