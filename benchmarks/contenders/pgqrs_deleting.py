"""pgqrs on a queue that keeps nothing of what is completed, beside peers that delete it."""

from __future__ import annotations

import sys

import pgqrs
from benchmarks.contenders.answering import answer
from benchmarks.contenders.pgqrs import Ours, figures_of

FIGURES = ("fill", "share", "drain by", "run")
"""What their names begin with."""


def main(dsn: str) -> None:
    """Answer what is asked about finishing."""
    with pgqrs.Admin(dsn) as admin:
        admin.create_queue("deleting", archive_mode=pgqrs.ArchiveMode.NONE, exist_ok=True)
    ours = Ours(dsn, "deleting")
    figures = figures_of(ours)
    answer({name: figures[name] for name in figures if name.startswith(FIGURES)}, ours.close)


if __name__ == "__main__":
    main(sys.argv[1])
