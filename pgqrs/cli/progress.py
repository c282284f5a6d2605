"""How far long work has come: a line on standard error, where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pgqrs.cli.render import console
from pgqrs.cli.status import is_watched

__all__ = ["counting"]


@contextmanager
def counting(
    what: str, total: int | None = None, *, if_: bool = True
) -> Iterator[Callable[[int], None]]:
    """Count things for the block, of a total if there is one; gives what is told how many more.

    The line is taken away at the end.
    """
    if not (if_ and is_watched()):
        yield lambda _: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        console=console(sys.stderr),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
