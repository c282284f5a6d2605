"""`python -m pgqrs` is the `pgqrs` command."""

from __future__ import annotations

from pgqrs.cli import main

if __name__ == "__main__":
    main()
