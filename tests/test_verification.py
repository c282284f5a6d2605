"""`verify` tells each difference in words, with the command that mends it, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from shape import plain, shape
from sqlalchemy import URL, Engine, text

from pgqrs import Admin, Config, Producer, verification
from pgqrs.types import Finding

pytestmark = pytest.mark.matrix


@dataclass(frozen=True)
class Damage:
    """What was done to the schema, and what `verify` says of it."""

    done: str
    message: str
    severity: str = "error"


READY = "CREATE INDEX pgqrs_messages_ready ON pgqrs_messages"
DAMAGES = {
    "column missing": Damage(
        "ALTER TABLE pgqrs_messages DROP COLUMN headers",
        "column pgqrs_messages.headers is missing",
    ),
    "type": Damage(
        "ALTER TABLE pgqrs_messages ALTER read_ct TYPE bigint",
        "column pgqrs_messages.read_ct is BIGINT, and should be INTEGER",
    ),
    "null": Damage(
        "ALTER TABLE pgqrs_messages ALTER vt DROP NOT NULL",
        "column pgqrs_messages.vt may be null, and should not",
    ),
    "not null": Damage(
        "ALTER TABLE pgqrs_messages ALTER max_attempts SET NOT NULL",
        "column pgqrs_messages.max_attempts may not be null, and should",
    ),
    "default": Damage(
        "ALTER TABLE pgqrs_messages ALTER read_ct SET DEFAULT 7",
        "the default of column pgqrs_messages.read_ct is 7, and should be 0",
    ),
    "no default": Damage(
        "ALTER TABLE pgqrs_queues ALTER created_at DROP DEFAULT",
        "the default of column pgqrs_queues.created_at is none, and should be now()",
    ),
    "a default": Damage(
        "ALTER TABLE pgqrs_messages ALTER max_attempts SET DEFAULT 3",
        "the default of column pgqrs_messages.max_attempts is 3, and should be none",
    ),
    "identity": Damage(
        "ALTER TABLE pgqrs_messages ALTER id DROP IDENTITY",
        "the default of column pgqrs_messages.id is none, and should be an identity",
    ),
    "index missing": Damage(
        "DROP INDEX pgqrs_messages_ready", "index pgqrs_messages_ready is missing"
    ),
    "index on other rows": Damage(
        f"DROP INDEX pgqrs_messages_ready; {READY} (queue_id, priority DESC, id) WHERE state = 1",
        "index pgqrs_messages_ready covers (state = 1), and should cover state = 0",
    ),
    "index on all rows": Damage(
        f"DROP INDEX pgqrs_messages_ready; {READY} (queue_id, priority DESC, id)",
        "index pgqrs_messages_ready covers all rows, and should cover state = 0",
    ),
    "index on other columns": Damage(
        f"DROP INDEX pgqrs_messages_ready; {READY} (priority DESC, id) WHERE state = 0",
        "index pgqrs_messages_ready is not on the columns it should be on, or not unique",
    ),
    "index not unique": Damage(
        "DROP INDEX pgqrs_workers_address; CREATE INDEX pgqrs_workers_address ON pgqrs_workers"
        " (queue_id, role, hostname, port) WHERE port IS NOT NULL AND shutdown_at IS NULL",
        "index pgqrs_workers_address is not on the columns it should be on, or not unique",
    ),
    "unique missing": Damage(
        "ALTER TABLE pgqrs_queues DROP CONSTRAINT pgqrs_queues_queue_name_key",
        "unique constraint pgqrs_queues_queue_name_key is missing",
    ),
    "primary key missing": Damage(
        "ALTER TABLE pgqrs_archive DROP CONSTRAINT pgqrs_archive_pkey",
        "primary key pgqrs_archive_pkey is missing",
    ),
    "check missing": Damage(
        "ALTER TABLE pgqrs_messages DROP CONSTRAINT pgqrs_messages_state_check",
        "check pgqrs_messages_state_check is missing",
        "warning",
    ),
    "foreign key missing": Damage(
        "ALTER TABLE pgqrs_messages DROP CONSTRAINT pgqrs_messages_queue_id_fkey",
        "foreign key pgqrs_messages_queue_id_fkey is missing: nothing keeps the rows consistent",
        "warning",
    ),
    "storage": Damage(
        "ALTER TABLE pgqrs_messages SET (fillfactor = 90)",
        "storage parameter fillfactor of pgqrs_messages is 90, and should be 50",
        "warning",
    ),
    "storage not set": Damage(
        "ALTER TABLE pgqrs_messages RESET (vacuum_truncate)",
        "storage parameter vacuum_truncate of pgqrs_messages is not set, and should be off",
        "warning",
    ),
}
# Mended by a person who knows why it is there.
STRANGE = {
    "column": Damage(
        "ALTER TABLE pgqrs_messages ADD extra int",
        "column pgqrs_messages.extra is not pgqrs's",
        "warning",
    ),
    "index": Damage(
        "CREATE INDEX theirs ON pgqrs_messages (enqueued_at)",
        "index theirs is not pgqrs's",
        "warning",
    ),
    "constraint": Damage(
        "ALTER TABLE pgqrs_messages ADD CONSTRAINT theirs UNIQUE (id, vt)",
        "constraint theirs is not pgqrs's",
        "warning",
    ),
    "foreign key": Damage(
        "ALTER TABLE pgqrs_archive ADD CONSTRAINT theirs FOREIGN KEY (consumer_worker_id)"
        " REFERENCES pgqrs_workers (id)",
        "foreign key theirs is not pgqrs's",
        "warning",
    ),
}


def damage(engine: Engine, statement: str, schema: str = "pgqrs") -> None:
    with engine.begin() as connection:
        connection.execute(text(f'SET LOCAL search_path = "{schema}"'))
        connection.execute(text(statement))


def test_a_fresh_schema_is_as_it_should_be(admin: Admin) -> None:
    """An empty list is good, and stays so in use."""
    assert admin.verify() == []
    admin.create_queue("work")
    with Producer(admin, "work") as producer:
        producer.enqueue({"a": 1})
    assert admin.verify() == []


@pytest.mark.parametrize("name", DAMAGES)
def test_a_difference_is_told_and_its_remedy_mends_it(
    name: str, admin: Admin, engine: Engine
) -> None:
    """One difference is one finding, and the SQL it gives can be run as it is."""
    case = DAMAGES[name]
    before = shape(engine)
    damage(engine, case.done)
    damaged = shape(engine)
    (finding,) = admin.verify()
    assert (finding.severity, finding.message) == (case.severity, case.message)
    assert shape(engine) == damaged  # looking changes nothing
    with engine.begin() as connection:
        connection.execute(text(finding.remedy))
    assert admin.verify() == []
    if name != "column missing":  # which comes back as the last one
        assert shape(engine) == before


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_ours_is_only_a_warning(name: str, admin: Admin, engine: Engine) -> None:
    """A host may have added it on purpose, and knows whether it may go."""
    case = STRANGE[name]
    damage(engine, case.done)
    remedy = "drop it, if you did not add it on purpose"
    assert admin.verify() == [Finding(case.severity, case.message, remedy)]


def test_tables_of_a_host_are_no_concern_of_ours(admin: Admin, engine: Engine) -> None:
    """Neither beside pgqrs's nor in other schemas."""
    damage(engine, "CREATE TABLE theirs (id int)")
    damage(engine, "CREATE TABLE public.pgqrs_messages (id int)")
    assert admin.verify() == []


def test_a_missing_table_is_one_finding(admin: Admin, engine: Engine) -> None:
    """Its indexes and constraints are not told one by one."""
    damage(engine, "DROP TABLE pgqrs_archive")
    (finding,) = admin.verify()
    assert finding.severity == "error"
    assert finding.message == "table pgqrs_archive is missing"
    assert "`pgqrs --schema pgqrs install --dry-run`" in finding.remedy


def test_several_differences_are_all_told(admin: Admin, engine: Engine) -> None:
    """Mending one and looking again would be a long way."""
    several = ("type", "null", "default", "index missing", "foreign key missing", "storage")
    for name in several:
        damage(engine, DAMAGES[name].done)
    found = {finding.message for finding in admin.verify()}
    assert found == {DAMAGES[name].message for name in several}


def test_an_older_schema_names_both_revisions(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package was upgraded, and the database not yet."""
    monkeypatch.setattr(verification, "head", lambda: "pgqrs_9999")
    assert admin.verify() == [
        Finding(
            "error",
            "the tables are at revision pgqrs_0002, and this pgqrs needs pgqrs_9999",
            "pgqrs --schema pgqrs install",
        )
    ]


def test_an_unknown_revision_is_a_newer_pgqrs(admin: Admin, engine: Engine) -> None:
    """The database was upgraded by another version of the package."""
    damage(engine, "UPDATE pgqrs_version SET version_num = 'pgqrs_7777'")
    damage(engine, "ALTER TABLE pgqrs_queues ADD COLUMN added_later int")
    assert admin.verify() == [
        Finding(
            "warning",
            "the tables are at revision pgqrs_7777, newer than pgqrs_0002 of this pgqrs",
            "upgrade the pgqrs package; until then it goes on working",
        )
    ]
    damage(engine, "ALTER TABLE pgqrs_queues DROP COLUMN policy")
    assert admin.verify()[1].message == "column pgqrs_queues.policy is missing"


def test_a_revision_of_somebody_elses(admin: Admin, engine: Engine) -> None:
    """What is no number of pgqrs's is not known to be later than its own."""
    damage(engine, "UPDATE pgqrs_version SET version_num = 'a1b2c3'")
    assert admin.verify() == [
        Finding(
            "error",
            "the tables are at revision a1b2c3, which this pgqrs does not know",
            "upgrade the pgqrs package",
        )
    ]


def test_nothing_installed_says_how_to_install(empty_url: URL) -> None:
    """The command names the schema it was asked about."""
    with Admin(Config.from_dsn(plain(empty_url), schema="Elsewhere")) as admin:
        assert admin.verify() == [
            Finding(
                "error",
                "there are no pgqrs tables in schema 'Elsewhere'",
                "pgqrs --schema Elsewhere install",
            )
        ]


def test_tables_without_a_version_of_ours_are_compared(admin: Admin, engine: Engine) -> None:
    """A host that has our revisions in its own history keeps the version there."""
    damage(engine, "DROP TABLE pgqrs_version")
    assert admin.verify() == []
    damage(engine, "ALTER TABLE pgqrs_messages DROP COLUMN headers")
    assert [finding.message for finding in admin.verify()] == [
        "column pgqrs_messages.headers is missing"
    ]


@pytest.mark.parametrize("schema", ["pgqrs", "Mixed", "public"])
def test_it_does_not_matter_which_schema_is_the_connections_own(
    schema: str, empty_url: URL
) -> None:
    """Nor whether its name needs quotes: what is said can be run."""
    own = empty_url.update_query_dict({"options": f'-csearch_path="{schema}"'})
    with Admin(Config.from_dsn(plain(own), schema=schema)) as admin:
        admin.install()
        assert admin.verify() == []
        damage(admin.pool, "DROP INDEX pgqrs_messages_ready", schema)
        damage(admin.pool, "ALTER TABLE pgqrs_workers SET (fillfactor = 100)", schema)
        findings = admin.verify()
        assert len(findings) == 2
        with admin.pool.connect() as connection:
            for finding in findings:
                connection.execute(text(finding.remedy))
        assert admin.verify() == []
