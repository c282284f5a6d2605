"""Be a worker: `pgqrs worker run` works a queue with a function of the user's."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pgqrs.cli.failures import UsageError
from pgqrs.cli.options import Options, options_of
from pgqrs.cli.render import counted

__all__ = ["run"]


def run(
    context: typer.Context,
    handler: Annotated[
        str, typer.Argument(metavar="MODULE:NAME", help="A function, or a Handlers object.")
    ],
    *,
    queue: Annotated[str, typer.Option("--queue", help="The queue to work.")],
    concurrency: Annotated[int, typer.Option(min=1, help="Handlers at a time.")] = 1,
    prefetch: Annotated[int | None, typer.Option(min=0, help="Messages leased ahead.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Give lists of so many.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long a call may take.")
    ] = None,
) -> None:
    """Work a queue with a function of yours until SIGTERM or Ctrl-C; a second one ends at once."""
    options = options_of(context)
    work = _found(handler)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    _work(options, work, queue, concurrency, prefetch, batch_size, timeout)


def _work(
    options: Options,
    work: Callable[[Any], Any],
    queue: str,
    concurrency: int,
    prefetch: int | None,
    batch_size: int | None,
    timeout: float | None,
) -> None:
    from pgqrs.consumer import Consumer

    with Consumer(options.config(), queue) as consumer:
        report = consumer.run(
            work,
            concurrency=concurrency,
            prefetch=prefetch,
            batch_size=batch_size,
            timeout=timeout,
        )
    done = f"completed {counted(report.completed, 'message')}, {report.failed} attempts failed"
    options.output.done(done, **dataclasses.asdict(report))
    if report.still_running:
        sys.stdout.flush()
        os._exit(1)  # its threads cannot be ended otherwise


def _found(name: str) -> Callable[[Any], Any]:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"name the handler as MODULE:NAME, such as app.jobs:send, not {name!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - as Python itself does
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise UsageError(f"there is no module {error.name!r} to import") from error
    except AttributeError as error:
        raise UsageError(f"module {module!r} has no {attribute!r}") from error
    if not callable(found):
        raise UsageError(f"{name} is no function, but a {type(found).__name__}")
    handler: Callable[[Any], Any] = found
    return handler
