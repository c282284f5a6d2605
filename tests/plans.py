"""Read what PostgreSQL does for the library's own SQL, on a history it knows well, badly or not.

`furnish` fills one schema a state of the statistics; `Explainer` captures statements as the
library sends them and explains them, with values and as generic plans. No planner setting is
changed but that which makes a plan generic, as a run's connection does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, create_engine, event

from pgqrs import migrations

BIG = ("pgqrs_messages", "pgqrs_archive", "pgqrs_keys")
STATES = (
    "analyzed",
    "unanalyzed",
    "analyzed_empty",
    "analyzed_leased",
    "analyzed_ready",
    "vacuumed_empty",
)

# The queue `steady` has nothing late; `late` has delayed, expired and exhausted messages that are
# due; `behind` has nothing but leases that ran out, and `idle` nothing at all. Messages are younger
# than the archive, as in life.
QUEUES = """
INSERT INTO pgqrs_queues (queue_name) VALUES ('steady'), ('late'), ('idle'), ('behind');
INSERT INTO pgqrs_workers (queue_id, role, hostname, port)
  SELECT 1 + g % 2, 'consumer', 'host', g FROM generate_series(1, 300) g;
"""
# What was there when the tables were analyzed: messages of one state only, here {0}.
DIFFERENT = """
INSERT INTO pgqrs_messages (queue_id, vt, enqueued_at, state, payload, read_ct, consumer_worker_id)
  SELECT 3, now(), now(), {0}, '1', 1, 7 FROM generate_series(1, 2000);
INSERT INTO pgqrs_archive
    (id, queue_id, vt, enqueued_at, archived_at, read_ct, returned_ct, priority, status)
  SELECT g, 3, now(), now(), now() - interval '30 d', 1, 0, 0, 'failed'
  FROM generate_series(1, 50) g;
"""
FORGOTTEN = """
DELETE FROM pgqrs_messages;
DELETE FROM pgqrs_archive;
"""
KEPT_LOOKS = ("CREATE TEMPORARY TABLE held_back AS SELECT * FROM pgqrs_messages",)
BURST = (
    "INSERT INTO pgqrs_messages OVERRIDING SYSTEM VALUE SELECT * FROM held_back ORDER BY id",
    "DROP TABLE held_back",
)
ROWS = """
INSERT INTO pgqrs_archive (id, queue_id, vt, enqueued_at, dequeued_at, archived_at,
    consumer_worker_id, read_ct, returned_ct, priority, status, payload)
  SELECT g, 1 + (g % 10 = 0)::int, now(), now(), now(), now() - (110000 - g) * interval '10 s',
    1 + g % 300, 1, 0, 0, CASE WHEN g % 50 = 0 THEN 'failed' ELSE 'completed' END,
    '{"a": 1}'
  FROM generate_series(1, 110000) g;
INSERT INTO pgqrs_keys (queue_id, kind, key, number, taken_at, until)
  SELECT 1, kind, CASE kind WHEN 3 THEN g::text ELSE md5(g::text)::uuid::text END, g, now(),
    now() + (10000 - g) * interval '1 s'
  FROM generate_series(1, 20000) g, (VALUES (2), (3)) AS kinds (kind);
ALTER TABLE pgqrs_messages ALTER id RESTART WITH 200001;
CREATE TEMPORARY VIEW body AS SELECT jsonb_build_object('text', repeat('x', 185)) AS payload;
INSERT INTO pgqrs_messages (queue_id, vt, enqueued_at, producer_worker_id, state, payload)
  SELECT 1 + (g % 11 = 0)::int, now() + (3600 + g * 7919 % 100000) * interval '1 s',
    now() - interval '1 d', 1, 1, payload
  FROM body, generate_series(1, 110000) g;
INSERT INTO pgqrs_messages (queue_id, vt, enqueued_at, dequeued_at, producer_worker_id, state,
    payload, read_ct, consumer_worker_id)
  SELECT 1, now() + interval '1 h', now() - interval '1 d', now(), 1, 2, payload, 1, 2 + g % 3 * 2
  FROM body, generate_series(1, 450) g;
INSERT INTO pgqrs_messages (queue_id, vt, enqueued_at, producer_worker_id, state, payload, read_ct,
    consumer_worker_id)
  SELECT 2, now() - g * interval '1 s', now() - interval '1 d', 1, 1 + (g > 400)::int, payload,
    CASE WHEN g <= 400 THEN 0 WHEN g % 3 = 0 THEN 5 ELSE 1 END, CASE WHEN g > 400 THEN 3 END
  FROM body, generate_series(1, 850) g;
INSERT INTO pgqrs_messages (queue_id, vt, enqueued_at, producer_worker_id, priority, state, payload)
  SELECT 1 + g % 2, now(), now() - interval '1 d', 1, CASE WHEN g % 7 = 0 THEN 5 ELSE 0 END, 0,
    payload
  FROM body, generate_series(1, 20400) g;
INSERT INTO pgqrs_messages (queue_id, vt, enqueued_at, producer_worker_id, state, payload, read_ct,
    consumer_worker_id)
  SELECT 4, now() - g * interval '1 s', now() - interval '1 d', 1, 2, payload, 1, 1
  FROM body, generate_series(1, 2000) g;
DROP VIEW body;
"""


def furnish(url: URL) -> None:
    """Make and fill the four schemas."""
    engine = create_engine(url)
    for state in STATES:
        migrations.install(engine, state)
    engine.dispose()
    with psycopg.connect(_dsn(url), autocommit=True) as connection:
        # Loading without triggers is quicker; the rows are as consistent as any.
        connection.execute("SET session_replication_role = replica")
        for state in STATES:
            connection.execute(f"SET search_path = {state}".encode())
            for part in _parts(state):
                connection.execute(part.encode())


def _parts(state: str) -> Iterator[str]:
    tables = ("pgqrs_queues", "pgqrs_workers", *BIG)
    analyze = f"ANALYZE {', '.join(tables)};"
    yield from (f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in tables)
    yield QUEUES
    if state == "analyzed_empty":
        yield analyze
    if state in ("analyzed_leased", "analyzed_ready"):
        yield from (DIFFERENT.format(2 if state == "analyzed_leased" else 0), analyze, FORGOTTEN)
    yield ROWS
    if state == "analyzed":
        yield analyze
    if state == "vacuumed_empty":
        # Of a table that was emptied VACUUM notes that its pages have no rows; then a burst comes.
        yield from (
            *KEPT_LOOKS,
            "DELETE FROM pgqrs_messages",
            f"VACUUM {', '.join(tables)}",
            *BURST,
        )


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass(frozen=True)
class Plan:
    """A plan, and what its execution read."""

    root: dict[str, Any]
    text: str = field(repr=False)

    @property
    def buffers(self) -> int:
        """Shared buffers hit and read.

        A CTE that nothing reads runs after the plan proper, and its buffers are not in the root.
        """
        read = {node["CTE Name"] for node in self.nodes() if node["Node Type"] == "CTE Scan"}
        late = [cte for name, cte in self.ctes().items() if name not in read]
        return sum(_buffers(node) for node in (self.root, *late))

    def nodes(self) -> Iterator[dict[str, Any]]:
        return _nodes(self.root)

    def ctes(self) -> dict[str, dict[str, Any]]:
        named = ((node.get("Subplan Name", ""), node) for node in self.nodes())
        return {name.removeprefix("CTE "): node for name, node in named if name.startswith("CTE ")}

    def indexes(self) -> set[str]:
        """The indexes that are used, without the prefix they share."""
        named = (node["Index Name"] for node in self.nodes() if "Index Name" in node)
        return {name.removeprefix("pgqrs_") for name in named}

    def indexes_in(self, cte: str) -> set[str]:
        """The indexes that one CTE's own scan uses."""
        return Plan(self.ctes()[cte], "").indexes()

    def rows_taken(self, cte: str) -> int:
        """How many rows the scan under an UPDATE or DELETE in a CTE found."""
        (scan,) = [
            node for node in self.ctes()[cte]["Plans"] if node["Parent Relationship"] == "Outer"
        ]
        return round(scan["Actual Rows"])

    def whole_scans(self) -> list[str]:
        """The large tables of which everything is looked at."""
        return [
            node["Relation Name"]
            for node in self.nodes()
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG
        ]

    def sorts(self) -> list[float]:
        """How many rows each sort read."""
        read = [node["Plans"][0] for node in self.nodes() if node["Node Type"].endswith("Sort")]
        return [float(node["Actual Rows"] * node["Actual Loops"]) for node in read]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _buffers(node: dict[str, Any]) -> int:
    return int(node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0))


@dataclass(frozen=True)
class Sent:
    """A statement as the library sent it to the driver."""

    text: str
    values: dict[str, Any]

    def arguments(self) -> sql.Composable:
        """The values, in the order in which the driver numbers them."""
        names = dict.fromkeys(re.findall(r"%\((\w+)\)s", self.text))
        values = sql.SQL(", ").join(sql.Literal(self.values[name]) for name in names)
        return sql.SQL("({})").format(values) if names else sql.SQL("")


class Explainer:
    """Captures on one connection and explains on another, which nothing else prepares on."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, isolation_level="READ COMMITTED")
        self._driver = psycopg.connect(_dsn(url), autocommit=True)
        self._driver.prepare_threshold = None
        self._driver.prepared_max = None
        self._prepared: dict[str, str] = {}
        self.version = self._driver.info.server_version // 10_000

    def close(self) -> None:
        self._engine.dispose()
        self._driver.close()

    def capture(self, call: Callable[[Connection], object]) -> list[Sent]:
        """Give what `call` sends; what it does is rolled back."""
        sent: list[Sent] = []

        def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
            sent.append(Sent(statement, values))

        event.listen(self._engine, "before_cursor_execute", note)
        try:
            with self._engine.connect() as connection, connection.begin() as transaction:
                call(connection)
                transaction.rollback()
        finally:
            event.remove(self._engine, "before_cursor_execute", note)
        return sent

    def custom(self, sent: Sent, allowed: float = math.inf) -> Plan:
        """Execute with the values known to the planner, as the first five times; warm."""
        explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sent.text
        return self._executed(explain, sent.values, allowed)

    def prepared(self, sent: Sent, allowed: float = math.inf) -> Plan:
        """Execute as after many executions: the generic plan, if the server settles on it."""
        self.is_generic(sent)
        explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ")
        return self._executed(explain + self._execute(sent), None, allowed)

    def generic(self, sent: Sent, allowed: float = math.inf) -> Plan:
        """Execute the generic plan, as connections of a run do from the first time on."""
        explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ")
        self._raw("SET plan_cache_mode = force_generic_plan")
        try:
            return self._executed(explain + self._execute(sent), None, allowed)
        finally:
            self._raw("RESET plan_cache_mode")

    def is_generic(self, sent: Sent) -> bool:
        """Say whether the server settles on the generic plan, which it decides after five."""
        for _ in range(8):  # explaining counts as executing, and leaves nothing behind
            self._rolled_back(sql.SQL("EXPLAIN (FORMAT JSON) ") + self._execute(sent))
            if self._generic_plans(self._prepare(sent)) > 0:
                return True
        return False

    def ask(self, query: str) -> list[Any]:
        """Give the rows of a query of the test's own."""
        return self._driver.execute(query.encode()).fetchall()

    def _execute(self, sent: Sent) -> sql.Composable:
        name = sql.Identifier(self._prepare(sent))
        return sql.SQL("EXECUTE {}{}").format(name, sent.arguments())

    def _prepare(self, sent: Sent) -> str:
        if sent.text not in self._prepared:
            self._driver.prepare_threshold = 5
            self._raw("BEGIN")
            self._driver.execute(sent.text.encode(), sent.values, prepare=True)
            self._raw("ROLLBACK")
            self._driver.prepare_threshold = None
            row = self._driver.execute(
                "SELECT name FROM pg_prepared_statements"
                " ORDER BY prepare_time DESC, name DESC LIMIT 1"
            ).fetchone()
            assert row is not None
            (self._prepared[sent.text],) = row
        return self._prepared[sent.text]

    def _generic_plans(self, name: str) -> int:
        query = "SELECT generic_plans FROM pg_prepared_statements WHERE name = %s"
        row = self._driver.execute(query, [name]).fetchone()
        assert row is not None
        return int(row[0])

    def _executed(self, explain: str | sql.Composable, values: Any, allowed: float) -> Plan:
        """Give the second execution, or the median of five where that one is not allowed.

        One in hundreds fills an index page, looks up which of its rows are dead and splits it, for
        all those before; indexes that grow alike do so one shortly after the other.
        """
        self._rolled_back(explain, values)
        plan = self._rolled_back(explain, values)
        if plan.buffers <= allowed:
            return plan
        again = [self._rolled_back(explain, values) for _ in range(4)]
        return sorted([plan, *again], key=lambda each: each.buffers)[2]

    def _rolled_back(self, statement: str | sql.Composable, values: Any = None) -> Plan:
        query = statement.encode() if isinstance(statement, str) else statement
        self._raw("BEGIN")
        try:
            row = self._driver.execute(query, values).fetchone()
        finally:
            self._raw("ROLLBACK")
        assert row is not None
        return _plan(row[0])

    def _raw(self, statement: str) -> None:
        # Past psycopg, which forgets what it prepared when it sees a ROLLBACK.
        result = self._driver.pgconn.exec_(statement.encode())
        assert result.status in (
            psycopg.pq.ExecStatus.COMMAND_OK,
            psycopg.pq.ExecStatus.TUPLES_OK,
        ), result.error_message


def _plan(explained: list[dict[str, Any]]) -> Plan:
    root = explained[0]["Plan"]
    return Plan(root, json.dumps(root, indent=1))
