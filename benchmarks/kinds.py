"""Who is measured."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders.pgbench import program as pgbench
from benchmarks.environments import command, environment

__all__ = ["Kind", "own", "peers"]

PEERS = {
    "procrastinate": ("procrastinate", ["procrastinate", "psycopg[binary,pool]"]),
    "pgqueuer": ("PgQueuer", ["pgqueuer[asyncpg]"]),
    "pgmq": ("pgmq", ["pgmq", "psycopg[binary,pool]"]),
    "pgmq_sql": ("pgmq, SQL alone", ["pgmq", "psycopg[binary]"]),
    "upstream": ("upstream pgqrs", ["pgqrs==0.15.3", "psycopg[binary]"]),
    "graphile_worker": ("Graphile Worker", ["node@22", "graphile-worker@0.18", "pg@8"]),
    "pg_boss": ("pg-boss", ["node@22", "pg-boss@12", "pg@8"]),
}
"""The module of each, what it is called, and the packages it needs."""
DELETING = "pgqrs, deleting"
ENVIRONMENTS = Path(__file__).parent / ".environments"


@dataclass(frozen=True)
class Kind:
    """A contender, how to start it, and whether on our tables; `keeps`: of ours, what is done."""

    name: str
    command: tuple[str, ...]
    ours: bool = False
    keeps: bool = True


def own(tell: Callable[[str], None]) -> list[Kind]:
    """Give the floors and pgqrs, the plainest first."""
    modules = {
        "psycopg": "psycopg_floor",
        "core": "core_floor",
        "pgqrs": "pgqrs",
        DELETING: "pgqrs_deleting",
    }
    if pgbench() is None:
        tell("pgbench is neither beside the server nor on the PATH, and is left out")
    else:
        modules = {"pgbench": "pgbench", **modules}
    return [
        Kind(name, tuple(command(sys.executable, module)), ours=True, keeps=name != DELETING)
        for name, module in modules.items()
    ]


def peers(tell: Callable[[str], None]) -> list[Kind]:
    """Give the peers that can be installed."""
    kinds = []
    for module, (name, requirements) in PEERS.items():
        program = environment(module, requirements, ENVIRONMENTS)
        if program is None:
            tell(f"{name} could not be installed, and is left out")
        else:
            kinds.append(Kind(name, tuple(command(program, module))))
    return kinds
