"""The models for the host's own selects: joins, loading, and nothing that is written by them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, inspect, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, joinedload, selectinload

from pgqrs import Admin, Config, Consumer, Producer, models
from pgqrs.models import Archive, Message, Queue, Worker

pytestmark = pytest.mark.matrix


@pytest.fixture
def session(engine: Engine, admin: Admin, config: Config) -> Iterator[Session]:
    """A session of the host's on a queue with a message of each kind."""
    admin.create_queue("dead")
    admin.create_queue("q", dead_letter="dead")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue([1, 2, 3])
        done, _ = consumer.dequeue_batch(2)
        consumer.archive(done)
        with Session(engine) as session:
            yield session


def test_relationships_lead_to_one_another(session: Session) -> None:
    """Each relationship gives the rows that belong together, by a join or an option."""
    loaded = (
        selectinload(Queue.messages),
        selectinload(Queue.archive),
        selectinload(Queue.workers),
    )
    queue = session.scalars(select(Queue).where(Queue.queue_name == "q").options(*loaded)).one()
    assert sorted(message.payload for message in queue.messages) == [2, 3]
    assert [message.payload for message in queue.archive] == [1]
    assert {worker.role for worker in queue.workers} == {"producer", "consumer"}
    assert queue.dead_letter_queue is not None
    assert queue.dead_letter_queue.queue_name == "dead"
    for model in (Message, Archive):
        options = (joinedload(model.producer), joinedload(model.consumer), joinedload(model.queue))
        message = session.scalars(select(model).where(model.id < 3).options(*options)).one()
        assert message.queue is queue
        assert message.producer is not None
        assert message.consumer is not None
        assert (message.producer.role, message.consumer.role) == ("producer", "consumer")
        assert message.consumer.queue is queue
    holding = select(Worker).options(selectinload(Worker.leased)).where(Worker.role == "consumer")
    assert [message.payload for message in session.scalars(holding).one().leased] == [2]


def test_collections_are_loaded_on_demand_only(session: Session) -> None:
    """Touching one that no statement asked for is an error, and not a million rows."""
    queue = session.scalars(select(Queue).where(Queue.queue_name == "q")).one()
    for name in ("messages", "archive", "workers"):
        with pytest.raises(InvalidRequestError, match="lazy='raise'"):
            getattr(queue, name)


def test_relationships_write_nothing() -> None:
    """All of them are view-only: nothing that is done to them reaches the database."""
    for model in (models.Queue, models.Worker, models.Message, models.Archive):
        found = inspect(model).relationships
        assert found
        assert all(relation.viewonly for relation in found)
