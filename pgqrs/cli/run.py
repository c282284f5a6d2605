"""Be a worker: `pgqrs worker run` works queues with a function of the user's."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pgqrs.cli.failures import complain
from pgqrs.cli.options import options_of
from pgqrs.cli.render import Output, counted

if TYPE_CHECKING:
    from pgqrs.cli.job import Job
    from pgqrs.runner import Report

__all__ = ["run"]


def run(
    context: typer.Context,
    handler: Annotated[
        str, typer.Argument(metavar="MODULE:NAME", help="A function, or a Handlers object.")
    ],
    *,
    queue: Annotated[list[str], typer.Option("--queue", help="A queue to work; may be repeated.")],
    concurrency: Annotated[
        int, typer.Option(min=1, help="Handlers at a time, for each queue and process.")
    ] = 1,
    processes: Annotated[int, typer.Option(min=1, help="How many processes work.")] = 1,
    prefetch: Annotated[int | None, typer.Option(min=0, help="Messages leased ahead.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Give lists of so many.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long a call may take.")
    ] = None,
) -> None:
    """Work queues with a function of yours until SIGTERM or Ctrl-C; a second one ends at once."""
    from pgqrs.cli.job import Job
    from pgqrs.cli.status import is_watched

    options = options_of(context)
    watched = not options.output.for_programs and is_watched()
    settings = (processes, concurrency, prefetch, batch_size, timeout, watched)
    job = Job(options, handler, tuple(queue), *settings)
    if processes > 1:
        _work_together(job)
    else:
        _work_alone(job)


def _work_alone(job: Job) -> None:
    from pgqrs.cli.status import StatusLine, showing

    with job.runner() as runner:
        line = StatusLine(job.queues, lambda: (1, runner.report))
        with showing(line, if_=job.has_status_line):
            report = runner.run()
    _summarize(job.options.output, report)
    if report.still_running:
        sys.stdout.flush()
        os._exit(1)  # its threads cannot be ended otherwise


def _work_together(job: Job) -> None:
    from pgqrs.cli.fleet import Fleet
    from pgqrs.cli.job import log_to_stderr
    from pgqrs.cli.status import StatusLine, showing

    limit = job.options.config().shutdown_timeout_seconds
    log_to_stderr(job)
    with Fleet(job, limit) as fleet:
        line = StatusLine(job.queues, fleet.progress)
        with showing(line, if_=job.has_status_line):
            report = fleet.work()
    if fleet.failure is not None:
        status, sentence = fleet.failure
        complain(sentence)
        raise typer.Exit(status)
    _summarize(job.options.output, report)
    if report.still_running or not fleet.all_well:
        raise typer.Exit(1)


def _summarize(output: Output, report: Report) -> None:
    done = f"completed {counted(report.completed, 'message')}, {report.failed} attempts failed"
    output.done(done, **dataclasses.asdict(report))
