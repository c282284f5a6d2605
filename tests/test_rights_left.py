"""What a grant or a revoke must leave, because others own it or gave it: they say so."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, Engine, create_engine, text

from pgqrs import Admin, DatabaseError
from pgqrs.operations.rights import NOTE

Line = Callable[..., tuple[int, str, str]]
MAY = "SELECT has_table_privilege(:role, 'pgqrs.' || :name, 'SELECT')"


@pytest.fixture
def roles(maintenance: Engine) -> Iterator[list[str]]:
    """Three logins that own nothing yet, and must not at the end."""
    names = [f"tenant_{uuid.uuid4().hex[:8]}" for _ in range(3)]
    with maintenance.connect() as connection:
        for name in names:
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'"))
    yield names
    with maintenance.connect() as connection:
        connection.execute(text(f"DROP ROLE {', '.join(names)}"))


@pytest.fixture
def su(engine: Engine, roles: list[str]) -> Iterator[Callable[..., bool]]:
    """Run SQL as a superuser, who in the end takes everything from the roles."""

    def su(*statements: str, **values: str) -> bool:
        with engine.begin() as connection:
            found = [connection.execute(text(each), values) for each in statements][-1]
            return bool(found.scalar()) if found.returns_rows else False

    yield su
    su(f"DROP OWNED BY {', '.join(roles)}")


def as_role(url: URL, role: str) -> str:
    return url.set(username=role, password="secret").render_as_string(hide_password=False)


def test_views_of_an_admin_are_left_to_it(
    url: URL, engine: Engine, roles: list[str], su: Callable[..., bool]
) -> None:
    """An owner who is no superuser gives and takes all the rest, and names those views."""
    owner, alice, graf = roles
    su(
        f"GRANT CREATE ON DATABASE {url.database} TO {owner}",
        f"ALTER SCHEMA pgqrs OWNER TO {owner}",
        *(
            f"ALTER TABLE pgqrs.pgqrs_{name} OWNER TO {owner}"
            for name in ("queues", "workers", "messages", "archive", "keys", "version")
        ),
    )
    left = f"{NOTE}left to the owners of these views: a_viewed, q_viewed, queues\n"
    with Admin(as_role(url, owner)) as own, Admin(as_role(url, alice)) as theirs:
        own.grant("admin", alice)
        theirs.create_queue("viewed", views=True)
        assert NOTE not in own.grant("admin", alice)  # who may read what she owns
        assert own.grant("readonly", graf).startswith(left)
        assert su(MAY, role=graf, name="pgqrs_messages")
        assert NOTE not in own.revoke(graf)
        assert not su(MAY, role=graf, name="pgqrs_messages")
        with pytest.raises(ValueError, match=r"owns the views a_viewed.* OWNER TO"):
            own.revoke(alice)
        su("SET LOCAL ROLE " + alice, f"GRANT SELECT ON pgqrs.a_viewed TO {graf}")
        assert own.revoke(graf).startswith(f"{NOTE}left to the owners of these views: a_viewed\n")
    with Admin(engine) as super_admin:  # who may act for the views' owner
        assert NOTE not in super_admin.grant("readonly", graf)
        with pytest.raises(ValueError, match="owns the views"):
            super_admin.revoke(alice)
        as_graf = create_engine(url.set(username=graf, password="secret"))
        with as_graf.connect() as connection:
            assert connection.scalar(text("SELECT count(*) FROM pgqrs.q_viewed")) == 0
        as_graf.dispose()
        assert NOTE not in super_admin.revoke(graf)
    assert not su(MAY, role=graf, name="a_viewed")


def test_what_is_left_after_revoking_is_said(
    admin: Admin, roles: list[str], su: Callable[..., bool], line: Line
) -> None:
    """Rights through others are named; those of its own that another gave are an error."""
    group, giver, role = roles
    for each in (group, role):
        admin.grant("consumer", each)
    su(f"GRANT {group} TO {role}", f"GRANT pg_read_all_data TO {role}")
    su("GRANT SELECT ON pgqrs.pgqrs_archive TO PUBLIC")
    said = f"it has rights still through PUBLIC, pg_read_all_data, {group}"
    told = f"role {role!r} may do less with the pgqrs tables now; {said}\n"
    assert line("revoke", role) == (0, told, "")
    su(f"REVOKE {group}, pg_read_all_data FROM {role}")
    su("REVOKE SELECT ON pgqrs.pgqrs_archive FROM PUBLIC")
    told = f"role {role!r} may do nothing with the pgqrs tables now\n"
    assert line("revoke", role) == (0, told, "")
    su(
        f"GRANT USAGE ON SCHEMA pgqrs TO {giver}",
        f"GRANT SELECT (id) ON pgqrs.pgqrs_messages TO {giver} WITH GRANT OPTION",
        f"SET LOCAL ROLE {giver}",
        f"GRANT SELECT (id) ON pgqrs.pgqrs_messages TO {role}",
    )
    with pytest.raises(DatabaseError, match=f"SELECT on pgqrs_messages, granted by '{giver}'"):
        admin.revoke(role)
    su(f"ALTER ROLE {group} SUPERUSER")
    assert admin.revoke(group).startswith(f"{NOTE}it has rights still through being a superuser\n")


def test_the_sql_is_printed_for_who_may_not_read_the_schema(
    admin: Admin, url: URL, roles: list[str]
) -> None:
    """Without the views, which it may not look for; that is said first."""
    admin.create_queue("viewed", views=True)
    with Admin(as_role(url, roles[0])) as nobody:
        for sql in (
            nobody.grant("readonly", roles[0], dry_run=True),
            nobody.revoke(roles[0], dry_run=True),
        ):
            assert sql.startswith(f"{NOTE}without views of queues")
            assert "ON TABLE pgqrs.pgqrs_messages" in sql
            assert "viewed" not in sql
    assert "q_viewed" in admin.grant("readonly", roles[0], dry_run=True)
