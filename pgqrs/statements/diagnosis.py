"""Ask the server what could keep queues from working: rights, held snapshots, bloat, plans.

Reads catalogs, statistics and the leases, and changes nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Executable, Text, bindparam, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement

from pgqrs.models import Tables
from pgqrs.policy import QueuePolicy
from pgqrs.statements.keyed import TAKES_TURNS
from pgqrs.statements.lease import lease, lease_first, lease_in_turn
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.system import named

__all__ = [
    "analyze",
    "clock",
    "explained_lease",
    "horizon",
    "indexes",
    "notifications",
    "orphans",
    "role",
    "unseen",
    "vacuuming",
]


@cache
def clock() -> Executable:
    """Give the server's time."""
    return text("SELECT clock_timestamp()")


@cache
def notifications() -> Executable:
    """Give how full the server's queue of notifications is, from 0 to 1."""
    return text("SELECT pg_notification_queue_usage()")


@cache
def role() -> Executable:
    """Give (this role, whether it may vacuum table `name` in `schema`), if there is such a one."""
    return text(
        "SELECT current_user, pg_has_role(c.relowner, 'USAGE') OR pg_has_role("
        "(SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') OR CASE"
        " WHEN current_setting('server_version_num')::int >= 170000"
        " THEN has_table_privilege(c.oid, CASE"
        " WHEN current_setting('server_version_num')::int >= 170000 THEN 'MAINTAIN'"
        " ELSE 'SELECT' END) ELSE false END"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relname = :name"
    ).bindparams(bindparam("schema", type_=Text), bindparam("name", type_=Text))


@cache
def horizon() -> Executable:
    """Give who keeps dead rows from being cleaned: (kind, key, who, how long, transactions since).

    Kinds are session, prepared and slot; how long is null for a slot. The snapshot of a VACUUM is
    in nobody's way.
    """
    return text(
        "SELECT 'session', pid::text,"
        " concat_ws(', ', backend_type, usename, application_name, state),"
        " clock_timestamp() - coalesce(xact_start, query_start, backend_start),"
        " greatest(age(backend_xmin), age(backend_xid))"
        " FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND (datname = current_database() OR backend_type = 'walsender')"
        " AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)"
        " AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)"
        " UNION ALL SELECT 'prepared', gid, owner::text, clock_timestamp() - prepared,"
        " age(transaction) FROM pg_prepared_xacts WHERE database = current_database()"
        " UNION ALL SELECT 'slot', slot_name::text, concat(slot_type, CASE WHEN NOT active"
        " THEN ', inactive' END), null, age(xmin) FROM pg_replication_slots"
        " WHERE xmin IS NOT NULL ORDER BY 4 DESC NULLS LAST"
    )


@cache
def unseen() -> Executable:
    """Give (role, number of sessions here whose transactions this role may not see)."""
    return text(
        "SELECT current_user, count(*) FROM pg_stat_activity"
        " WHERE datname = current_database()"
        " AND coalesce(backend_type, 'client backend') = 'client backend'"
        " AND NOT pg_has_role('pg_read_all_stats', 'USAGE')"
        " AND (usesysid IS NULL OR NOT pg_has_role(usesysid, 'USAGE'))"
    )


@cache
def vacuuming() -> Executable:
    """Give (whether autovacuum is on, tables of `names` in `schema` that it leaves alone)."""
    return text(
        "SELECT current_setting('autovacuum')::bool, ARRAY("
        "SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relname = ANY(:names)"
        " AND EXISTS (SELECT FROM unnest(c.reloptions) AS option"
        " WHERE option IN ('autovacuum_enabled=false', 'autovacuum_enabled=off')))"
    ).bindparams(bindparam("schema", type_=Text), bindparam("names", type_=ARRAY(Text)))


@cache
def indexes() -> Executable:
    """Give of each index of table `name` in `schema` (name, bytes, bytes that its rows need).

    Need is told from the live rows and the widths of the indexed columns, for all of the table.
    """
    return text(
        "SELECT i.relname, pg_relation_size(i.oid), (pg_stat_get_live_tuples(t.oid)"
        " * (16 + coalesce(sum(greatest(a.attlen, 8)), 8)) / 0.7)::bigint"
        " FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid"
        " JOIN pg_class AS t ON t.oid = x.indrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace"
        " JOIN pg_attribute AS a ON a.attrelid = i.oid"
        " WHERE n.nspname = :schema AND t.relname = :name"
        " GROUP BY i.oid, i.relname, t.oid ORDER BY i.relname"
    ).bindparams(bindparam("schema", type_=Text), bindparam("name", type_=Text))


@per_schema
def orphans(t: Tables) -> Executable:
    """Give of each holder of leases that is stopped or gone (its id, leases, the last one's end).

    Leases that ran out are not among them: anybody may take those messages.
    """
    return text(
        "SELECT m.consumer_worker_id, count(*), max(m.vt) - clock_timestamp()"
        f" FROM {named(t.messages)} AS m LEFT JOIN {named(t.workers)} AS w"
        " ON w.id = m.consumer_worker_id"
        " WHERE m.state = 2 AND m.vt > statement_timestamp() AND w.shutdown_at IS NOT NULL"
        " OR m.state = 2 AND m.vt > statement_timestamp() AND w.id IS NULL"
        " GROUP BY m.consumer_worker_id ORDER BY m.consumer_worker_id"
    )


@per_schema
def analyze(t: Tables) -> Executable:
    """Renew the statistics of the tables."""
    return text(f"ANALYZE {', '.join(map(named, t))}")


class _Explained(Executable, ClauseElement):
    """A statement that is planned and not executed."""

    inherit_cache = False

    def __init__(self, statement: Any) -> None:
        self.statement = statement


@compiles(_Explained)
def _explain(element: _Explained, compiler: Any, **options: Any) -> str:
    return "EXPLAIN (FORMAT JSON) " + str(compiler.process(element.statement, **options))


@cache
def explained_lease(schema: str, policy: QueuePolicy) -> Executable:
    """Plan the lease of a queue of this policy, with its parameters; gives the plan as JSON."""
    if policy in TAKES_TURNS:
        return _Explained(lease_in_turn(schema, policy, wide=False))
    return _Explained(lease_first(schema) if policy is QueuePolicy.SHORT else lease(schema))
