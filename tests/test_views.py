"""Views of a queue, where they were asked for: made, read and dropped with it."""

from __future__ import annotations

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from shape import tables_in
from sqlalchemy import URL, Engine, MetaData, inspect, text

from pgqrs import Admin, Config, Consumer, DatabaseError, Producer, migrations

pytestmark = pytest.mark.matrix

ODD = "Orders.eu:1/a-b"


def views(engine: Engine, schema: str = "pgqrs") -> set[str]:
    return set(inspect(engine).get_view_names(schema=schema))


def ask(engine: Engine, sql: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(sql)))


def test_views_show_a_queue(admin: Admin, engine: Engine) -> None:
    """`q_` has the messages of its queue and `a_` its archive, whatever the name needs."""
    admin.create_queue("plain")
    assert views(engine) == set()
    admin.create_queue(ODD, views=True)
    assert views(engine) == {f"q_{ODD}", f"a_{ODD}", "queues"}
    with Producer(admin, ODD) as producer, Producer(admin, "plain") as other:
        producer.batch_enqueue([{"n": 1}, {"n": 2}])
        other.enqueue(0)
    with Consumer(admin, ODD) as consumer:
        consumer.archive(consumer.dequeue() or 0, output="ok")
    name = ODD.replace(":", "\\:")
    assert ask(engine, f'SELECT payload FROM pgqrs."q_{name}"') == [({"n": 2},)]
    assert ask(engine, f'SELECT payload, status, output FROM pgqrs."a_{name}"') == [
        ({"n": 1}, "completed", "ok")
    ]
    assert ask(engine, "SELECT queue_name FROM pgqrs.queues ORDER BY 1") == [(ODD,), ("plain",)]


def test_views_go_with_their_queue(admin: Admin, engine: Engine) -> None:
    """Those of the others stay; that of all queues goes with the last."""
    admin.create_queue("a", views=True)
    admin.create_queue("b")
    admin.create_queue("b", views=True, exist_ok=True)
    admin.create_queue("b", views=True, exist_ok=True)
    admin.delete_queue("a")
    assert views(engine) == {"q_b", "a_b", "queues"}
    admin.delete_queue("b", force=True)
    assert views(engine) == set()


def test_refused_views_make_no_queue(admin: Admin, engine: Engine) -> None:
    """A name that is too long for views, or one that is taken: then there is no queue either."""
    admin.create_queue("x" * 62)
    with pytest.raises(ValueError, match="at most 61"):
        admin.create_queue("y" * 62, views=True)
    admin.create_queue("z" * 61, views=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE pgqrs.a_mine (id int)"))
    with pytest.raises(DatabaseError, match="a_mine"):
        admin.create_queue("mine", views=True)
    assert [queue.queue_name[0] for queue in admin.list_queues()] == ["x", "z"]
    admin.create_queue("mine")
    admin.delete_queue("mine")  # which leaves alone what is no view
    assert "a_mine" in tables_in(engine, "pgqrs")


def test_verify_and_uninstall_know_views(dsn: str, engine: Engine) -> None:
    """Verify has nothing against them; uninstall drops them, and none that is somebody else's."""
    with Admin(Config.from_dsn(dsn)) as admin:
        admin.create_queue("a.b", views=True)
        admin.create_queue("c", views=True)
        assert admin.verify() == []
        with engine.begin() as connection:
            connection.execute(text("CREATE VIEW pgqrs.q_report AS SELECT 1 AS one"))
        assert 'DROP VIEW pgqrs."a_a.b";' in admin.uninstall(dry_run=True)
        admin.uninstall()
        assert (views(engine), tables_in(engine, "pgqrs")) == ({"q_report"}, set())
        admin.install()
        admin.create_queue("c", views=True)
        with engine.begin() as connection:
            connection.execute(text("DROP VIEW pgqrs.q_report"))
        admin.uninstall()
    assert "pgqrs" not in inspect(engine).get_schema_names()


def test_autogenerate_passes_views_over(admin: Admin, engine: Engine) -> None:
    """By each filter, also where a name has characters that need quoting."""
    admin.create_queue(ODD, views=True)
    filters: list[dict[str, Any]] = [
        {"include_name": migrations.include_name()},
        {"include_object": migrations.include_object()},
    ]
    for by in filters:
        with engine.connect() as connection:
            options = {"include_schemas": True, "target_metadata": MetaData(), **by}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, MetaData()) == []
    by_name = migrations.include_name()
    for name in (f"q_{ODD}", f"pgqrs.a_{ODD}", "pgqrs.queues"):
        assert not by_name(name, "view", {"schema_name": "pgqrs"})
    assert by_name("q report", "view", {"schema_name": "pgqrs"})


def test_a_queue_with_views_of_another_role_stays_as_it_is(
    admin: Admin, engine: Engine, url: URL, role: str
) -> None:
    """Only who made them, or the owner of the schema, deletes it; it is not emptied before."""
    theirs = url.set(username=role, password="secret").render_as_string(hide_password=False)
    admin.grant("admin", role)
    admin.create_queue("seen", views=True)
    with Producer(admin, "seen") as producer:
        producer.enqueue(1)
    with Admin(theirs) as other:
        other.create_queue("own", views=True)
        for force in (True, False):
            with pytest.raises(DatabaseError, match=r"owns its views \(a_seen, q_seen\)") as caught:
                other.delete_queue("seen", force=force)
            assert caught.value.sqlstate == "42501"
        assert other.queue_metrics("seen").total_messages == 1
        admin.delete_queue("own")
        other.create_queue("own", views=True)
    admin.delete_queue("seen", force=True)
    with Admin(theirs) as other:
        with pytest.raises(DatabaseError, match=r"\(queues\)"):  # the last: that of all goes too
            other.delete_queue("own")
        with engine.begin() as connection:
            connection.execute(text(f"ALTER VIEW pgqrs.queues OWNER TO {role}"))
        other.delete_queue("own")
    assert views(engine) == set()
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {role}"))
