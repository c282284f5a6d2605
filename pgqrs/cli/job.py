"""What a worker process is to do: the handler, the queues, the options; the same in each."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pgqrs.cli.failures import UsageError
from pgqrs.cli.options import Options

if TYPE_CHECKING:
    from pgqrs.several import Runner

__all__ = ["Job", "found", "log_to_stderr"]

_CLEAR: Final = "\r\x1b[2K"
"""Takes the status line away, so that a record begins at the margin; it is back within a second."""


@dataclass(frozen=True, slots=True)
class Job:
    """The command line of a worker; a process that is started gets it as it is."""

    options: Options
    handler: str
    queues: tuple[str, ...]
    processes: int = 1
    concurrency: int = 1
    prefetch: int | None = None
    batch_size: int | None = None
    timeout: float | None = None
    has_status_line: bool = False

    def runner(self) -> Runner:
        """Give a Runner with these queues, to be used in a `with` block; imports the handler.

        Records are printed on standard error, unless the module of the handler says where they go.
        Raises UsageError for what is no handler, ConfigError, ValueError.
        """
        from pgqrs.several import Runner

        handler = found(self.handler)
        log_to_stderr(self)
        runner = Runner(self.options.config())
        for queue in self.queues:
            runner.add(
                queue,
                handler,
                concurrency=self.concurrency,
                prefetch=self.prefetch,
                batch_size=self.batch_size,
                timeout=self.timeout,
            )
        return runner


def log_to_stderr(job: Job) -> None:
    """Have records printed on standard error: with their process, where there are several."""
    process = "[%(process)d] " if job.processes > 1 else ""
    form = f"%(asctime)s {process}%(levelname)s %(message)s"
    if job.has_status_line:
        form = _CLEAR + form
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)


def found(name: str) -> Callable[[Any], Any]:
    """Import the handler MODULE:NAME, from the current directory too. Raises UsageError."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"name the handler as MODULE:NAME, such as app.jobs:send, not {name!r}")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - as Python itself does
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except ModuleNotFoundError as error:
        raise UsageError(f"there is no module {error.name!r} to import") from error
    except AttributeError as error:
        raise UsageError(f"module {module!r} has no {attribute!r}") from error
    if not callable(value):
        raise UsageError(f"{name} is no function, but a {type(value).__name__}")
    handler: Callable[[Any], Any] = value
    return handler
