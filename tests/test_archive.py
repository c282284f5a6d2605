"""The history: found by id or by queue, and purged by age."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from pgqrs import Admin, Archive, Consumer, MessageNotFoundError, Producer, QueueNotFoundError
from pgqrs.operations import queues

FINISHED = text(
    "INSERT INTO pgqrs.pgqrs_archive (id, queue_id, vt, enqueued_at, archived_at, read_ct,"
    " returned_ct, priority, status)"
    " SELECT g, :queue, now(), t, t, 1, 0, 0, 'completed'"
    " FROM generate_series(1, :n) g, LATERAL (SELECT now() - (:n - g) * interval '1 h' AS t) t"
)


@pytest.fixture
def two_histories(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The queues a and b with 30 messages each that were finished an hour apart."""
    ids = tuple(admin.create_queue(name).id for name in ("a", "b"))
    with admin.pool.connect() as connection:
        for queue in ids:
            connection.execute(FINISHED, {"queue": queue, "n": 30})
    monkeypatch.setattr(queues, "BATCH", 7)
    return ids[0], ids[1]


def left(admin: Admin, queue: int) -> list[int]:
    return [message.id for message in Archive(admin).filter_by_fk(queue, limit=1000)]


def test_a_purge_by_age_spares_what_is_younger(
    admin: Admin, two_histories: tuple[int, int]
) -> None:
    """In batches, of one queue, to the instant; asked again, there is nothing left to do."""
    mine, other = two_histories
    assert admin.purge_archive("a", older_than=9.5 * 3600) == 20
    assert left(admin, mine) == list(range(21, 31))
    assert left(admin, other) == list(range(1, 31))
    assert admin.purge_archive("a", older_than=9.5 * 3600) == 0


def test_a_purge_by_age_spares_what_was_finished_late(
    admin: Admin, two_histories: tuple[int, int]
) -> None:
    """A message that waited for long is as young as its end, wherever its id stands."""
    late = text(
        "UPDATE pgqrs.pgqrs_archive SET archived_at = now() WHERE queue_id = :q AND id < 15"
    )
    with admin.pool.connect() as connection:
        connection.execute(late, {"q": two_histories[0]})
    assert admin.purge_archive("a", older_than=9.5 * 3600) == 6
    assert left(admin, two_histories[0]) == [*range(1, 15), *range(21, 31)]


@pytest.mark.usefixtures("two_histories")
def test_a_purge_of_everything_leaves_nothing(admin: Admin) -> None:
    """Without an age all goes, and without a queue that of all queues."""
    assert admin.purge_archive("a") == 30
    assert admin.purge_archive() == 30
    assert Archive(admin).count() == 0
    with pytest.raises(QueueNotFoundError):
        admin.purge_archive("c")


def test_a_purge_by_age_of_all_queues(admin: Admin, two_histories: tuple[int, int]) -> None:
    """Each queue is purged to the same instant."""
    assert admin.purge_archive(older_than=9.5 * 3600) == 40
    assert [len(left(admin, queue)) for queue in two_histories] == [10, 10]


def test_a_purge_does_not_wait_for_somebody_else(
    admin: Admin, two_histories: tuple[int, int]
) -> None:
    """A row that is just being changed is left for the next time."""
    lock = text("SELECT 1 FROM pgqrs.pgqrs_archive WHERE queue_id = :q AND id = 3 FOR UPDATE")
    with admin.pool.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        connection.execute(lock, {"q": two_histories[0]})
        assert admin.purge_archive("a") == 29
        connection.rollback()
    assert left(admin, two_histories[0]) == [3]


def test_a_finished_message_is_found_by_its_id_alone(admin: Admin) -> None:
    """In whichever queue it was; and it can be changed and deleted so."""
    ids = []
    for name in ("a", "b", "c"):
        admin.create_queue(name)
        with Producer(admin, name) as producer, Consumer(admin, name) as consumer:
            producer.enqueue({"of": name})
            message = consumer.dequeue()
            assert message is not None
            ids.append(consumer.archive(message).id)
    archive = Archive(admin)
    assert [archive.get(each).payload["of"] for each in ids] == ["a", "b", "c"]
    assert archive.update(ids[1], status="seen").status == "seen"
    assert archive.get(ids[2]).status == "completed"
    assert archive.delete(ids[1])
    assert not archive.delete(ids[1])
    with pytest.raises(MessageNotFoundError):
        archive.get(ids[1])
    assert [message.id for message in archive.list()] == [ids[0], ids[2]]
