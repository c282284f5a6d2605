"""What a role of the server must be allowed for each kind of access, and how that is granted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import groupby
from typing import Final, NamedTuple

from sqlalchemy import ARRAY, DDL, Executable, Text, bindparam, text
from sqlalchemy.dialects import postgresql

from pgqrs.access import Access

__all__ = [
    "MAINTAIN",
    "Right",
    "executable",
    "granted",
    "ground",
    "holders",
    "lacking",
    "needed",
    "revoked",
]

MAINTAIN: Final = "MAINTAIN"
"""The right to vacuum what somebody else owns; PostgreSQL 17 and newer have it."""

_DIALECT: Final = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
_WHOLE: Final = ("queues", "workers", "messages", "archive", "keys")
_SEQUENCES: Final = ("queues_id_seq", "workers_id_seq", "messages_id_seq")
_ALL: Final = "SELECT INSERT UPDATE DELETE"
# To lock a row takes the right to update one of its columns, whichever. A producer deletes what it
# just added, and its keys, where a message was kept out by another key or another of its batch was.
_RIGHTS: Final[dict[Access, dict[str, str]]] = {
    Access.PRODUCER: {
        "queues": "SELECT",
        "workers": _ALL,
        "messages": "SELECT INSERT UPDATE(vt,state) DELETE",
        "keys": "SELECT INSERT UPDATE(number,taken_at,until) DELETE",
        "version": "SELECT",
        "messages_id_seq": "USAGE",
    },
    Access.CONSUMER: {
        "queues": "SELECT UPDATE(lease_ct)",
        "workers": _ALL,
        "messages": f"{_ALL} {MAINTAIN}",
        "archive": "SELECT INSERT UPDATE(archived_at) DELETE",
        "keys": "SELECT UPDATE(until) DELETE",
        "version": "SELECT",
    },
    Access.ADMIN: {
        **dict.fromkeys(_WHOLE, f"{_ALL} {MAINTAIN}"),
        "version": "SELECT",
        **dict.fromkeys(_SEQUENCES, "SELECT UPDATE"),
    },
    Access.READONLY: dict.fromkeys((*_WHOLE, "version", *_SEQUENCES), "SELECT"),
}
"""By table or sequence, without their prefix."""


class Right(NamedTuple):
    """One thing that a role may be allowed."""

    kind: str
    name: str
    verb: str
    column: str = ""
    """What it is for alone; empty: all of it."""


def needed(schema: str, access: Access, views: Iterable[str] = ()) -> list[Right]:
    """Give what an access takes: of the schema, of tables and sequences, and of these views."""
    rights = [Right("SCHEMA", schema, "USAGE")]
    if access is Access.ADMIN:  # who makes views there
        rights.append(Right("SCHEMA", schema, "CREATE"))
    for short, verbs in _RIGHTS[access].items():
        kind = "SEQUENCE" if short in _SEQUENCES else "TABLE"
        for each in verbs.split():
            verb, _, columns = each.rstrip(")").partition("(")
            rights += [Right(kind, f"pgqrs_{short}", verb, name) for name in columns.split(",")]
    if access in (Access.ADMIN, Access.READONLY):
        rights += [Right("TABLE", view, "SELECT") for view in views]
    return rights


def granted(schema: str, rights: Iterable[Right], role: str) -> Iterator[str]:
    """Write what grants these rights, a statement for each thing they are of."""
    for (kind, name), of_one in groupby(rights, lambda right: right[:2]):
        verbs = ", ".join(_verbs(of_one))
        yield f"GRANT {verbs} ON {kind} {_full(schema, kind, name)} TO {_quoted(role)}"


def revoked(schema: str, rights: Iterable[Right], role: str) -> Iterator[str]:
    """Write what takes all rights away again on the things that these are of."""
    for kind, name in dict.fromkeys(right[:2] for right in rights):
        yield f"REVOKE ALL ON {kind} {_full(schema, kind, name)} FROM {_quoted(role)}"


def executable(written: str) -> Executable:
    """Give what was written as a statement."""
    # DDL, not text: a colon in a name is no parameter.
    return DDL(written.replace("%", "%%"))  # type: ignore[no-untyped-call]


@cache
def ground() -> Executable:
    """Look at `names` in `schema`, for `role`: one row.

    It is (who asks, which of them the role owns, or null where there is no such role, which of them
    are there, which of those belong to somebody else).
    """
    there = (
        "SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = :schema AND c.relname = ANY(:names)"
    )
    return text(
        "SELECT current_user,"
        f" (SELECT ARRAY({there} AND c.relowner = r.oid) FROM pg_roles AS r WHERE rolname = :role),"
        f" ARRAY({there}), ARRAY({there} AND NOT pg_has_role(c.relowner, 'USAGE'))"
    ).bindparams(
        bindparam("schema", type_=Text),
        bindparam("names", type_=ARRAY(Text)),
        bindparam("role", type_=Text),
    )


@cache
def lacking() -> Executable:
    """Give those rights that `role` (nobody: who asks) has not: their places, from 1.

    Parameters are `schema`, and the parts of rights as arrays: kinds, names, verbs and columns.
    What is not there is not lacking.
    """
    arrays = ("kinds", "names", "verbs", "columns")
    return text(
        "SELECT r.place FROM unnest(:kinds, :names, :verbs, :columns)"
        " WITH ORDINALITY AS r(kind, name, verb, col, place)"
        " JOIN pg_namespace AS n ON n.nspname = :schema"
        " LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = r.name"
        " LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = r.col,"
        " LATERAL (SELECT CAST(coalesce(:role, current_user) AS name) AS role) AS who"
        " WHERE NOT CASE WHEN r.kind = 'SCHEMA' THEN has_schema_privilege(who.role, n.oid, r.verb)"
        " WHEN r.kind = 'SEQUENCE' THEN has_sequence_privilege(who.role, c.oid, r.verb)"
        " WHEN r.col <> '' THEN has_column_privilege(who.role, c.oid, a.attnum, r.verb)"
        " ELSE has_table_privilege(who.role, c.oid, r.verb) END ORDER BY r.place"
    ).bindparams(
        bindparam("schema", type_=Text),
        bindparam("role", type_=Text),
        *(bindparam(name, type_=ARRAY(Text)) for name in arrays),
    )


@cache
def holders() -> Executable:
    """Say through whom `role` has rights on `schema` and on `names` there.

    Rows are (holder, whether it is the role itself, name, verb, who granted it). Those of a
    superuser and of predefined roles are not for any name.
    """
    things = "pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    these = "n.nspname = :schema AND c.relname = ANY(:names)"
    usual = "acldefault(CASE c.relkind WHEN 'S' THEN 's'::\"char\" ELSE 'r' END, c.relowner)"
    return text(
        "WITH who AS (SELECT oid, rolsuper FROM pg_roles WHERE rolname = :role), acls AS ("
        "SELECT nspname AS name, coalesce(nspacl, acldefault('n', nspowner)) AS acl"
        " FROM pg_namespace WHERE nspname = :schema"
        f" UNION ALL SELECT relname, coalesce(relacl, {usual}) FROM {things} WHERE {these}"
        " UNION ALL SELECT relname, attacl"
        f" FROM {things} JOIN pg_attribute AS a ON a.attrelid = c.oid WHERE {these})"
        " SELECT CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee)::text END,"
        " g.grantee = who.oid, acls.name::text, g.privilege_type, pg_get_userbyid(g.grantor)::text"
        " FROM who, acls, aclexplode(acls.acl) AS g WHERE g.grantee IN (0, who.oid)"
        " OR (NOT who.rolsuper AND pg_has_role(who.oid, g.grantee, 'USAGE'))"
        " UNION ALL SELECT rolname::text, false, '', '', '' FROM who, pg_roles AS r"
        " WHERE r.rolname ~ '^pg_((read|write)_all_data|maintain)$'"
        " AND NOT who.rolsuper AND pg_has_role(who.oid, r.oid, 'USAGE')"
        " UNION ALL SELECT 'being a superuser', false, '', '', '' FROM who WHERE rolsuper"
    ).bindparams(
        bindparam("schema", type_=Text),
        bindparam("names", type_=ARRAY(Text)),
        bindparam("role", type_=Text),
    )


def _verbs(rights: Iterable[Right]) -> Iterator[str]:
    for verb, alike in groupby(rights, lambda right: right.verb):
        columns = [right.column for right in alike if right.column]
        yield f"{verb} ({', '.join(columns)})" if columns else verb


def _full(schema: str, kind: str, name: str) -> str:
    return _quoted(schema) if kind == "SCHEMA" else f"{_quoted(schema)}.{_quoted(name)}"


def _quoted(name: str) -> str:
    return str(_DIALECT.identifier_preparer.quote(name))
