"""Least privilege: each access is enough for its work, and no right of it is too much."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deeds import DEEDS, Deed, Scene
from sqlalchemy import URL, Engine, text
from waiting import crowd, until, wait_for

from pgqrs import Access, Admin, Config, Consumer, DatabaseError
from pgqrs.aio import AsyncAdmin
from pgqrs.statements.rights import MAINTAIN, granted, needed

LETTERS = {access: access.value[0].upper() for access in Access}
LEADS = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE leads_until > now()"


@pytest.fixture
def scene(role: str, url: URL, engine: Engine, admin: Admin) -> Iterator[Scene]:
    """The owner and the role, which has no rights yet."""
    theirs = url.set(username=role, password="secret")
    config = Config.from_dsn(theirs.render_as_string(hide_password=False))
    scene = Scene(admin, config, engine)
    with scene.kept_open:
        yield scene
    scene.sql(f"DROP OWNED BY {role}")


def refusal(scene: Scene, deed: Deed) -> str | None:
    """Say how a deed was refused for want of a right, if it was."""
    try:
        deed(scene)
    except DatabaseError as error:
        if error.sqlstate == "42501":
            return str(error)
        raise
    return None


@pytest.mark.parametrize("access", Access)
def test_each_access_is_enough_for_its_work_alone(scene: Scene, role: str, access: Access) -> None:
    """Every deed is done, or refused with our error that says what gives the right."""
    scene.owner.grant(access, role)
    wrong = []
    for name, (may, deed) in DEEDS.items():
        refused = refusal(scene, deed)
        if (LETTERS[access] in may) != (refused is None):
            wrong.append((name, refused))
    assert not wrong


@pytest.mark.parametrize("access", [Access.PRODUCER, Access.CONSUMER])
def test_no_right_is_too_much(scene: Scene, role: str, access: Access) -> None:
    """Without any one of them, some deed of that access is refused."""
    scene.owner.grant(access, role)
    rights = [right for right in needed("pgqrs", access) if right.verb != MAINTAIN]
    own = [deed for may, deed in DEEDS.values() if LETTERS[access] in may]
    idle = []
    for right in rights:
        (grant,) = granted("pgqrs", [right], role)
        scene.sql(grant.replace("GRANT", "REVOKE").replace(f" TO {role}", f" FROM {role}"))
        if not any(refused(scene, deed) for deed in own):
            idle.append(right)
        scene.sql(grant)
    assert not idle


def refused(scene: Scene, deed: Deed) -> bool:
    return refusal(scene, deed) is not None


@pytest.mark.matrix
def test_a_worker_runs_is_woken_and_maintains(
    scene: Scene, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a consumer's rights it is elected, hears notifications, and may vacuum from 17 on."""
    scene.owner.grant("consumer", role)
    caplog.set_level("INFO", "pgqrs")
    dsn = scene.role.url.render_as_string(hide_password=False)
    patient = Config.from_dsn(dsn, poll_interval_seconds=3600, cleanup_interval_seconds=1)
    seen: list[Any] = []
    with Consumer(patient, "q") as consumer, crowd() as start:
        start(1, lambda: consumer.run(seen.append))
        try:
            until(lambda: "listening on a direct connection" in caplog.text)
            wait_for(scene.engine, LEADS, 1)
            scene.fill()
            until(lambda: seen)
        finally:
            consumer.stop()
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    with Admin(scene.role) as theirs:
        newer = scene.engine.dialect.server_version_info >= (17,)  # type: ignore[operator]
        assert theirs.maintain().vacuumed is newer


@pytest.mark.matrix
def test_the_command_prints_or_does_it(
    scene: Scene, role: str, line: Callable[..., tuple[int, str, str]], ask: Callable[..., Any]
) -> None:
    """The SQL alone changes nothing; it may be repeated; revoking leaves nothing behind."""
    status, printed, _ = line("grant", "producer", role, "--dry-run")
    assert status == 0
    verbs = "SELECT, INSERT, UPDATE (vt, state), DELETE"
    assert f"GRANT {verbs} ON TABLE pgqrs.pgqrs_messages TO {role};" in printed.splitlines()
    assert refusal(scene, DEEDS["enqueue"][1])
    assert line("grant", "producer", role)[:2] == (0, f"role {role!r} may produce now\n")
    assert refusal(scene, DEEDS["enqueue"][1]) is None
    assert ask("grant", "readonly", role)["granted"] is True
    assert ask("grant", "readonly", role, "--dry-run")["granted"] is False
    assert refusal(scene, DEEDS["read_views"][1]) is None
    assert "REVOKE ALL ON SCHEMA pgqrs" in line("revoke", role, "--dry-run")[1]
    assert line("revoke", role)[0] == 0
    with scene.engine.begin() as connection:
        connection.execute(text(f"DROP ROLE {role}"))  # would be refused while any right is left
        connection.rollback()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("grant consumer nobody_here", 1, "the server has no role 'nobody_here'"),
        ("grant consumer public", 1, "the server has no role 'public'"),
        ("grant owner app", 2, "invalid value for"),
        ("grant consumer postgres", 2, "role 'postgres' owns the tables"),
        ("revoke postgres", 2, "role 'postgres' owns the tables"),
        ("grant consumer postgres --schema elsewhere", 1, "run `pgqrs install`"),
    ],
)
def test_what_cannot_be_granted(
    url: URL, line: Callable[..., tuple[int, str, str]], words: str, status: int, said: str
) -> None:
    """An unknown role, everybody, the owner, an unknown access, a schema without tables."""
    owner = url.username or ""
    got, out, complaint = line(*words.replace("postgres", owner).split())
    assert (got, out) == (status, "")
    assert said.replace("postgres", owner) in complaint.lower()


def test_names_are_quoted(maintenance: Engine, empty_url: URL) -> None:
    """A role and a schema may have any name that PostgreSQL allows."""
    name = f'My "role"; DROP TABLE x; -- %s :x {uuid.uuid4().hex[:8]}'
    quoted = '"' + name.replace('"', '""') + '"'
    config = Config(dsn=empty_url.render_as_string(False), schema="Select")
    with maintenance.connect() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {quoted.replace('%', '%%')}")
    try:
        with Admin(config) as admin:
            admin.install()
            admin.create_queue("weird:name/x", views=True)
            for access in Access:
                admin.grant(access, name)
                assert quoted in admin.grant(access, name, dry_run=True)
            admin.revoke(name)
    finally:
        with maintenance.connect() as connection:
            connection.exec_driver_sql(f"DROP ROLE {quoted.replace('%', '%%')}")


def test_nobody_grants_what_is_not_theirs(scene: Scene, role: str) -> None:
    """An admin is not the owner: the error says who could, and what to hand over is printed."""
    scene.owner.grant("admin", role)
    with Admin(scene.role) as theirs:
        with pytest.raises(DatabaseError, match=r"does not own .*--dry-run") as caught:
            theirs.grant("producer", role)
        assert caught.value.sqlstate == "42501"


def test_rights_are_granted_within_a_transaction(scene: Scene, role: str) -> None:
    """They come with the caller's commit, and not without it; asyncio has the same."""
    with scene.engine.connect() as connection:
        Admin(connection).grant("producer", role)
        connection.rollback()
        assert refusal(scene, DEEDS["enqueue"][1])

    async def both() -> None:
        async with AsyncAdmin(scene.owner.binding.config) as admin:
            await admin.grant(Access.PRODUCER, role)
            assert refusal(scene, DEEDS["enqueue"][1]) is None
            assert "REVOKE" in await admin.revoke(role)

    asyncio.run(both())
    assert refusal(scene, DEEDS["enqueue"][1])


def test_producers_that_must_not_read(scene: Scene, role: str) -> None:
    """Keeping payloads from them, as the guide prints, costs them `extend_visibility` alone."""
    scene.owner.grant("producer", role)
    page = (Path(__file__).parent.parent / "docs" / "guides" / "security.md").read_text()
    (block,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    scene.sql(*block.replace(" app;", f" {role};").strip().split(";\n"))
    own = {name: deed for name, (may, deed) in DEEDS.items() if may.startswith("P")}
    for of_admins in ("messages", "purge_queue"):
        own.pop(of_admins)
    lost = {name for name, deed in own.items() if refused(scene, deed)}
    assert lost == {"extend_visibility"}
    with Admin(scene.role) as theirs, pytest.raises(DatabaseError, match="permission denied"):
        theirs.messages("q")
