"""The `pgqrs` command: parse, call one method of the library, render. No SQL and no logic.

Only `main` is here, and what it needs is imported when it runs.
"""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit with its status: 0, 1 error, 2 usage, 3 no database."""
    try:
        from pgqrs.cli.app import run

        status = run(sys.argv[1:])
    except KeyboardInterrupt:  # while it was loading
        status = 130
    sys.exit(status)
