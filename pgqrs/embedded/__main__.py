"""`python -m pgqrs.embedded`: a server in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from pgqrs.embedded import EmbeddedPostgres, EmbeddedPostgresError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; return 0 when stopped on request, 1 when the server failed."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with EmbeddedPostgres(options.data, settings=dict(options.set)) as server:
            print(server.dsn(), flush=True)
            server.wait()
    except KeyboardInterrupt:
        return 0
    except EmbeddedPostgresError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pgqrs.embedded",
        description="Start a PostgreSQL server for development, print its DSN, and serve until "
        "Ctrl-C or SIGTERM.",
        epilog="example: python -m pgqrs.embedded --data ./pgdata --set max_connections=200",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="keep the data in DIR/<major version> (default: temporary, removed at the end)",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        type=_setting,
        action="append",
        default=[],
        help="a PostgreSQL setting; may be repeated",
    )
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
