"""Where it is measured: a server with durable settings, fresh databases, and contenders on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg import sql

import pgqrs
from benchmarks.asking import Contender
from benchmarks.kinds import Kind
from benchmarks.scale import Scale
from pgqrs.embedded import EmbeddedPostgres

__all__ = ["Stage"]

SETTINGS: dict[str, str | int] = {"max_connections": 300}
TEMPLATE = "bench_template"
TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_|^information_schema$'
"""


class Stage:
    """A server, and who is measured on it."""

    def __init__(
        self,
        server: EmbeddedPostgres,
        kinds: Sequence[Kind],
        scale: Scale,
        tell: Callable[[str], None],
    ) -> None:
        self.server = server
        self.kinds = list(kinds)
        self.scale = scale
        self.tell = tell
        self._numbers = itertools.count()
        self._databases: list[str] = []
        self._installed = False
        self._known: dict[str, frozenset[str]] = {}

    @classmethod
    @contextmanager
    def opened(
        cls,
        kinds: Sequence[Kind],
        scale: Scale,
        tell: Callable[[str], None],
        *,
        durable: bool = True,
        **settings: str | int,
    ) -> Iterator[Stage]:
        """Start a server for the block, with these settings of PostgreSQL's.

        What is measured on one that is not durable only shows that there is something.
        """
        with EmbeddedPostgres(durable=durable, settings={**SETTINGS, **settings}) as server:
            yield cls(server, kinds, scale, tell)

    @contextmanager
    def another(self, **settings: str | int) -> Iterator[Stage]:
        """Start a second server, durable in any case, for what would disturb the first."""
        with Stage.opened(self.kinds, self.scale, self.tell, durable=True, **settings) as stage:
            yield stage

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Drop the databases of the block at its end."""
        before = len(self._databases)
        try:
            yield
        finally:
            for name in self._databases[before:]:
                self._manage("DROP DATABASE {} WITH (FORCE)", name)
            del self._databases[before:]

    def database(self, *, ours: bool = True) -> str:
        """Make a database, with our tables and the queue `bench` or empty; gives its DSN."""
        if ours and not self._installed:
            self._install()
        name = f"bench_{next(self._numbers)}"
        self._manage("CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE if ours else "template0")
        self._databases.append(name)
        return self.server.dsn(name)

    def contender(self, kind: Kind, dsn: str | None = None, role: str = "bench") -> Contender:
        """Start a contender; `role` is the name that its connections bear."""
        dsn = dsn or self.database(ours=kind.ours)
        environment = {"PGAPPNAME": role, "PGQRS_PG_BINDIR": str(self.server.bindir)}
        return Contender(kind.name, kind.command, dsn, environment)

    @contextmanager
    def contenders(
        self, *figures: str, dsn: str | None = None, ours: bool | None = None
    ) -> Iterator[list[Contender]]:
        """Start a contender of each kind for the block, and give those that answer all of these.

        Each has a database of its own, unless one is given; `ours` chooses by whose tables.
        """
        with ExitStack() as stack:
            able = [kind for kind in self.able(*figures) if ours in (None, kind.ours)]
            started = [stack.enter_context(self.contender(kind, dsn)) for kind in able]
            self._known |= {each.name: each.figures for each in started}
            yield [each for each in started if set(figures) <= each.figures]

    def able(self, *figures: str) -> list[Kind]:
        """Give those that answer these figures, as far as that is known."""
        asked = frozenset(figures)
        return [kind for kind in self.kinds if asked <= self._known.get(kind.name, asked)]

    def kind(self, name: str) -> Kind:
        """Give who has this name."""
        (found,) = [kind for kind in self.kinds if kind.name == name]
        return found

    def rounds(self, count: int, what: str) -> Iterator[int]:
        """Count the rounds from 0, which warms up."""
        for number in range(count + 1):
            self.tell(f"{what}: {f'round {number} of {count}' if number else 'warming up'}")
            yield number

    def execute(self, dsn: str, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Execute one statement outside of a transaction; gives a value if there is one."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def vacuum(self, dsn: str) -> None:
        """Clean the tables of a database, so that nobody meets another's dead rows."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            tables = connection.execute(TABLES).fetchall()
            names = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
            if tables:
                connection.execute(sql.SQL("VACUUM {}").format(names))

    def forget(self, name: str, dsn: str) -> None:
        """Empty the archive of a contender of ours: by and by VACUUM would be all that is seen."""
        if self.kind(name).ours:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("TRUNCATE pgqrs.pgqrs_archive")

    def _install(self) -> None:
        self._manage("CREATE DATABASE {}", TEMPLATE)
        with pgqrs.Admin(pgqrs.Config.from_dsn(self.server.dsn(TEMPLATE))) as admin:
            admin.install()
            admin.create_queue("bench")
        self._installed = True

    def _manage(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
