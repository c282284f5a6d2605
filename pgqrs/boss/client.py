"""A client: send, fetch and end jobs of any queue; what is done is `BossSteps`."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable
from typing import Any

from pgqrs.admin import Admin
from pgqrs.boss.job import Job, JobDetails
from pgqrs.boss.queue import Queue
from pgqrs.boss.steps import BossSteps, Connecting, ground
from pgqrs.closing import Closing
from pgqrs.config import Config
from pgqrs.consumer import Consumer
from pgqrs.errors import QueueNotFoundError, SchemaError
from pgqrs.operations.identity import identity_of
from pgqrs.producer import Producer

__all__ = ["Client", "ClientBuilder"]


class Client(Closing):
    """Sends, fetches and ends jobs of any queue.

    `bind` is what any pgqrs object takes; without one it is what PGQRS_DSN, DATABASE_URL or a file
    names. The constructor does no I/O: see `install`. A client acts on whoever's active jobs, by
    the id alone. Leaving a `with` block leaves what it fetched active, until it expires or another
    client ends it. Every method raises UnavailableError, SchemaMissingError and, but for
    `get_queue`, QueueNotFoundError where they apply.
    """

    def __init__(
        self, bind: Any = None, schema: str | None = None, config: Config | None = None
    ) -> None:
        self._admin = Admin(*ground(bind, schema, config))
        self.binding = self._admin.binding
        self._steps = BossSteps(self.binding.config)
        self._producers: dict[str, Producer] = {}
        self._consumers: dict[str, Consumer] = {}
        self._making = threading.Lock()

    @classmethod
    def builder(cls) -> ClientBuilder:
        """Give a builder: `Client.builder().schema("jobs").connect()`."""
        return ClientBuilder()

    def install(self) -> None:
        """Make the tables where they are missing, or too old to be used. Needs an engine."""
        try:
            self._admin.list_queues()
        except SchemaError:
            self._admin.install()

    def create_standard_queue(self, name: str) -> None:
        """Create a queue with the usual defaults; one of this name stays as it is."""
        self.create_queue(Queue(name=name))

    def create_queue(self, queue: Queue) -> None:
        """Create a queue; one of its name stays as it is. Raises ValueError."""
        self._admin.create_queue(queue.name, exist_ok=True, **queue.options())

    def get_queue(self, name: str) -> Queue | None:
        """Look a queue up."""
        try:
            return Queue.found(self._admin.get_queue(name))
        except QueueNotFoundError:
            return None

    def get_queues(self) -> list[Queue]:
        """List all queues, by name."""
        return [Queue.found(info) for info in self._admin.list_queues()]

    def delete_queue(self, name: str) -> None:
        """Delete a queue with all its jobs. Raises QueueInUseError for a dead letter queue."""
        self._admin.delete_queue(name, force=True)

    def send_job(self, job: Job) -> uuid.UUID:
        """Send a job; gives its id.

        Raises DuplicateMessageError for an id that is there, or where the queue's policy keeps it
        out, ThrottledError in the window of another job, PayloadError, ValueError.
        """
        sent = self._producer(job.queue_name).enqueue(job.message())
        return identity_of(sent.message_id, sent.id)

    def send_data(self, queue_name: str, data: Any) -> uuid.UUID:
        """Send a job with this data and nothing else; gives its id. Raises as `send_job`."""
        return self.send_job(Job(queue_name=queue_name, data=data))

    def fetch_job(self, queue_name: str) -> JobDetails | None:
        """Take the next job: active from now on, until it is ended or expires."""
        return next(iter(self.fetch_jobs(queue_name, 1)), None)

    def fetch_jobs(self, queue_name: str, batch_size: int) -> list[JobDetails]:
        """Take up to so many jobs, `max_batch_size` at most."""
        messages = self._consumer(queue_name).dequeue_batch(batch_size)
        return [JobDetails.fetched(message, queue_name) for message in messages]

    def get_job(self, queue_name: str, job_id: uuid.UUID) -> JobDetails | None:
        """Look a job up, wherever it is."""
        return self.binding.run(self._steps.finding(queue_name, job_id))

    def complete_job(self, queue_name: str, job_id: uuid.UUID, output: Any = None) -> bool:
        """Complete an active job, with output that is kept; False where it is not active."""
        return bool(self.complete_jobs(queue_name, [job_id], output))

    def complete_jobs(
        self, queue_name: str, job_ids: Iterable[uuid.UUID], output: Any = None
    ) -> int:
        """Complete active jobs, each with this output; gives how many were."""
        return self.binding.run(self._steps.completing(queue_name, job_ids, output))

    def fail_job(self, queue_name: str, job_id: uuid.UUID, details: Any = None) -> bool:
        """End the attempt of an active job, which failed; False where it is not active.

        It is due again after its retry delay, or failed when that was the last retry.
        """
        return bool(self.fail_jobs(queue_name, [job_id], details))

    def fail_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID], details: Any = None) -> int:
        """End the attempts of active jobs, which failed of this; gives how many were."""
        return self.binding.run(self._steps.failing(queue_name, job_ids, details))

    def cancel_job(self, queue_name: str, job_id: uuid.UUID) -> bool:
        """Cancel a job, active or not; False where it is finished."""
        return bool(self.cancel_jobs(queue_name, [job_id]))

    def cancel_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID]) -> int:
        """Cancel jobs, active or not; gives how many were."""
        return self.binding.run(self._steps.cancelling(queue_name, job_ids))

    def resume_job(self, queue_name: str, job_id: uuid.UUID) -> bool:
        """Let a cancelled job wait again, as if never tried; False where it is not cancelled."""
        return bool(self.resume_jobs(queue_name, [job_id]))

    def resume_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID]) -> int:
        """Let cancelled jobs wait again; gives how many were."""
        return self.binding.run(self._steps.resuming(queue_name, job_ids))

    def delete_job(self, queue_name: str, job_id: uuid.UUID) -> bool:
        """Delete a job, whatever its state, so that its id may be sent again."""
        return bool(self.delete_jobs(queue_name, [job_id]))

    def delete_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID]) -> int:
        """Delete jobs, whatever their states; gives how many were."""
        return self.binding.run(self._steps.deleting(queue_name, job_ids))

    def close(self) -> None:
        """Stop its workers and free what it owns; what it fetched stays active. Idempotent."""
        self._steps.is_closed = True
        while self._consumers:
            self._consumers.popitem()[1].close(release=False)
        while self._producers:
            self._producers.popitem()[1].close()
        self._admin.close()

    def _producer(self, queue: str) -> Producer:
        self._steps.check_open()
        with self._making:
            if queue not in self._producers:
                self._producers[queue] = Producer(self, queue)
            return self._producers[queue]

    def _consumer(self, queue: str) -> Consumer:
        self._steps.check_open()
        with self._making:
            if queue not in self._consumers:
                self._consumers[queue] = Consumer(self, queue)
                self._steps.follow(self._consumers[queue])
            return self._consumers[queue]


class ClientBuilder(Connecting):
    """Makes a Client and connects it."""

    def connect(self) -> Client:
        """Give the client, having made the tables if need be.

        Raises MissingConfigError where nothing names a database, UnavailableError.
        """
        client = Client(self._url, self._schema)
        try:
            client.install()
        except BaseException:
            client.close()
            raise
        return client
