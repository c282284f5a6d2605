"""Measure: ``python -m benchmarks``, on an embedded server with durable settings."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import psycopg
from rich.console import Console

import pgqrs
from benchmarks import report
from benchmarks.environments import environment
from benchmarks.rounds import Asked, Contender, rates
from pgqrs.embedded import EmbeddedPostgres

FIGURES = (
    Asked("enqueue one", 1000),
    Asked("enqueue one, asyncio", 1000),
    Asked("enqueue 1000", 10_000),
    Asked("lease and archive one", 500),
    Asked("drain by 100", 10_000),
    Asked("run, batches of 100", 10_000),
    Asked("run, 1 at a time", 2_000),
    Asked("run, 8 at a time", 4_000),
    Asked("run, 64 at a time", 10_000),
)
OWN = (("psycopg", "psycopg_floor"), ("core", "core_floor"), ("pgqrs", "pgqrs"))
PEERS = {
    "procrastinate": ["procrastinate", "psycopg[binary,pool]"],
    "pgqueuer": ["pgqueuer[asyncpg]"],
    "pgmq": ["pgmq", "psycopg[binary]"],
    "upstream": ["pgqrs==0.15.3", "psycopg[binary]"],
    "graphile_worker": ["node@22", "graphile-worker@0.18", "pg@8"],
    "pg_boss": ["node@22", "pg-boss@12", "pg@8"],
}
HERE = Path(__file__).parent


def main() -> None:
    """Start a server, a database and a process for each contender, and ask them in turn."""
    arguments = parsed()
    out = Console()
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(durable=True))
        contenders = [
            stack.enter_context(Contender(name, sys.executable, module, fresh(server, name)))
            for name, module in OWN
        ]
        for name, requirements in PEERS.items() if arguments.peers else ():
            program = environment(name, requirements, HERE / ".environments")
            if program is None:
                out.print(f"{name} could not be installed, and is left out")
                continue
            database = fresh(server, name, install=False)
            contenders.append(stack.enter_context(Contender(name, program, name, database)))
        figures = [each for each in FIGURES if not arguments.only or arguments.only in each.figure]
        with out.status("") as status:
            results = rates(contenders, figures, arguments.rounds, status.update)
        version = str(server.version)
    report.show(results, out)
    about = {"rounds": arguments.rounds, "pgqrs": pgqrs.__version__, "server": version}
    report.save(results, about, arguments.out)
    out.print(f"written to {arguments.out}")


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    parser.add_argument("--only", default="", help="only figures with this in their name")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="pgqrs alone")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where results go")
    return parser.parse_args()


def fresh(server: EmbeddedPostgres, name: str, *, install: bool = True) -> str:
    """Make a database of a contender's own; gives its DSN."""
    database = f"bench_{name}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
    dsn = server.dsn(database)
    if install:
        with pgqrs.Admin(pgqrs.Config.from_dsn(dsn)) as admin:
            admin.install()
            admin.create_queue("bench")
    return dsn


if __name__ == "__main__":
    main()
