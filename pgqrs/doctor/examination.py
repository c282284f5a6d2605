"""All checks, in the order in which they make sense, and the round through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from pgqrs.doctor import lines, planning, rights, server, storage
from pgqrs.doctor.check import Check, Terms, note
from pgqrs.types import Finding
from pgqrs.verification import verify

__all__ = ["CHECKS", "examine"]


def _of_schema(connection: Connection, terms: Terms) -> list[Finding]:
    return verify(connection, terms.schema)


_HARMLESS: Final = {"index", "primary", "unique", "check"}
SCHEMA: Final = Check("schema", _of_schema)
RIGHTS: Final = Check("rights", rights.of_rights)
CHECKS: Final = (
    Check("clock", server.of_clock),
    Check("notifications", server.of_notifications),
    Check("horizon", server.of_horizon),
    Check("vacuuming", storage.of_vacuuming),
    Check("dead rows", storage.of_dead_rows, storage.vacuum),
    Check("statistics", storage.of_statistics, storage.analyze),
    Check("indexes", storage.of_indexes),
    Check("plan", planning.of_plan, storage.analyze),
    Check("ids", lines.of_ids, lines.bump),
    Check("queues", lines.of_queues),
    Check("workers", lines.of_workers, lines.reclaim),
    Check("leases", lines.of_leases),
    Check("types", lines.of_types),
)
"""What is looked at where the tables are there, and this role may read them."""


def examine(connection: Connection, terms: Terms, *, fix: bool) -> list[Finding]:
    """Go through all checks; with `fix` mend what can be mended safely, and look again.

    What was mended is among the findings, marked so.
    """
    findings = [*_named(RIGHTS, connection, terms)]
    schema = _named(SCHEMA, connection, terms) if rights.may_read(connection, terms) else None
    findings = [*(schema or ()), *findings]
    if schema is None or any(map(_is_in_the_way, findings)):
        failed = any(each.severity == "error" for each in findings)
        way_out = (
            "mend these errors first" if failed else "run it as a role that may read the tables"
        )
        rest = note("the rest was not looked at", way_out)
        return [*findings, replace(rest, check="rest")]
    for check in CHECKS:
        findings += _checked(connection, terms, check, fix=fix)
    return findings


def _is_in_the_way(finding: Finding) -> bool:
    """Say whether other checks would fail: they read tables and columns, and name no index."""
    what = finding.message.partition(" ")[0]
    return (finding.check, finding.severity) == ("schema", "error") and what not in _HARMLESS


def _checked(connection: Connection, terms: Terms, check: Check, *, fix: bool) -> Iterator[Finding]:
    found = [*_named(check, connection, terms)]
    if not (fix and check.mend and any(each.severity != "note" for each in found)):
        yield from found
        return
    check.mend(connection, terms)
    left = [*_named(check, connection, terms)]
    yield from (replace(each, mended=True) for each in found if each.message not in _said(left))
    yield from left


def _said(findings: list[Finding]) -> set[str]:
    return {finding.message for finding in findings}


def _named(check: Check, connection: Connection, terms: Terms) -> Iterator[Finding]:
    for finding in check.look(connection, terms):
        yield replace(finding, check=check.name)
