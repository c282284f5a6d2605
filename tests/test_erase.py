"""The archive page by page, erasing from it, and the sum of all."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text
from waiting import BLOCKED, crowd, wait_for

from pgqrs import Admin, Json, Producer, QueueNotFoundError

pytestmark = pytest.mark.matrix


def finish(admin: Admin, queue: str, payloads: list[Any]) -> list[int]:
    """Archive messages of these payloads; gives their ids."""
    with Producer(admin, queue) as producer:
        ids = [message.id for message in producer.batch_enqueue(payloads)]
    admin.archive_messages(ids)
    return ids


def test_pages_follow_one_another(admin: Admin) -> None:
    """Each page begins behind the last id, of one queue and of one status or any."""
    admin.create_queue("q")
    admin.create_queue("other")
    ids = finish(admin, "q", [1, 2, 3, 4])
    finish(admin, "other", [5])
    with Producer(admin, "q") as producer:
        failed = producer.enqueue(6).id
    admin.fail_messages(failed, "no")
    first = admin.archived_after("q", limit=3)
    assert [message.id for message in first] == ids[:3]
    second = admin.archived_after("q", first[-1].id, limit=3)
    assert [message.id for message in second] == [ids[3], failed]
    assert admin.archived_after("q", failed) == []
    assert [m.error for m in admin.archived_after("q", status="failed")] == ["no"]
    with pytest.raises(QueueNotFoundError):
        admin.archived_after("nobody")


def test_erased_by_id_or_payload(admin: Admin, engine: Engine) -> None:
    """What is named or matches is gone, of this queue alone; in as many batches as it takes."""
    admin.create_queue("q")
    admin.create_queue("other")
    people = [{"user": n % 3, "n": n} for n in range(2500)]
    ids = finish(admin, "q", people)
    others = finish(admin, "other", [{"user": 1}])
    with Producer(admin, "q") as producer:
        waiting = producer.enqueue({"user": 1}).id
    assert admin.erase_archived("q", [ids[0], ids[3], others[0], waiting, 999_999]) == 2
    assert admin.erase_archived("q", ids[:1500]) == 1498
    assert admin.erase_archived("q", containing={"user": 1}) == sum(
        person["user"] == 1 for person in people[1500:]
    )
    assert admin.erase_archived("q", containing={"user": 1}) == 0
    left = {message.payload["user"] for message in admin.archived_after("q", limit=2500)}
    assert left == {0, 2}
    assert admin.get_message(waiting).state == "created"
    assert admin.get_message(others[0]).payload == {"user": 1}
    with engine.connect() as connection:
        erased = "SELECT count(*) FROM pgqrs.pgqrs_archive WHERE payload @> '{\"user\": 1}'"
        assert connection.scalar(text(erased)) == 1


def test_erasing_leaves_nothing_that_was_busy(admin: Admin, engine: Engine) -> None:
    """A message that somebody is just changing is waited for, not passed over."""
    admin.create_queue("q")
    finish(admin, "q", [{"user": 1}, {"user": 1}])
    done: list[int] = []
    with crowd() as start, engine.begin() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_archive SET status = status"))
        start(1, lambda: done.append(admin.erase_archived("q", containing={"user": 1})))
        wait_for(engine, BLOCKED, 1)
    assert done == [2]


@pytest.mark.parametrize("what", [{}, {"ids": [1], "containing": 1}, {"containing": {}}])
def test_erasing_says_what(admin: Admin, what: dict[str, Any]) -> None:
    """Nothing, both, and what every payload contains are refused."""
    with pytest.raises(ValueError, match=r"what to erase|matches everything"):
        admin.erase_archived("q", **what)


def test_a_text_is_not_the_number_it_spells(admin: Admin) -> None:
    """What is erased is the JSON that was named."""
    admin.create_queue("q")
    finish(admin, "q", [1, Json("1"), Json("text")])
    assert admin.erase_archived("q", containing=Json("1")) == 1
    assert admin.erase_archived("q", containing=Json("text")) == 1
    assert [message.payload for message in admin.archived_messages("q")] == [1]
