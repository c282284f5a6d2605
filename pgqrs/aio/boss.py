"""A client of `pgqrs.boss` for asyncio: the twin of `pgqrs.boss.client`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from pgqrs.aio.admin import AsyncAdmin
from pgqrs.aio.consumer import AsyncConsumer
from pgqrs.aio.producer import AsyncProducer
from pgqrs.boss.job import Job, JobDetails
from pgqrs.boss.queue import Queue
from pgqrs.boss.steps import BossSteps, Connecting, ground
from pgqrs.closing import AsyncClosing
from pgqrs.config import Config
from pgqrs.errors import QueueNotFoundError, SchemaError
from pgqrs.operations.identity import identity_of

__all__ = ["AsyncClient", "AsyncClientBuilder"]


class AsyncClient(AsyncClosing):
    """Sends, fetches and ends jobs of any queue, under asyncio.

    `bind` is what any object of `pgqrs.aio` takes; without one it is what PGQRS_DSN, DATABASE_URL
    or a file names. The constructor does no I/O: see `install`. A client acts on whoever's active
    jobs, by the id alone. Leaving an `async with` block leaves what it fetched active, until it
    expires or another client ends it. Every method raises UnavailableError, SchemaMissingError and,
    but for `get_queue`, QueueNotFoundError where they apply.
    """

    def __init__(
        self, bind: Any = None, schema: str | None = None, config: Config | None = None
    ) -> None:
        self._admin = AsyncAdmin(*ground(bind, schema, config))
        self.binding = self._admin.binding
        self._steps = BossSteps(self.binding.config)
        self._producers: dict[str, AsyncProducer] = {}
        self._consumers: dict[str, AsyncConsumer] = {}

    @classmethod
    def builder(cls) -> AsyncClientBuilder:
        """Give a builder: `await AsyncClient.builder().schema("jobs").connect()`."""
        return AsyncClientBuilder()

    async def install(self) -> None:
        """Make the tables where they are missing, or too old to be used. Needs an engine."""
        try:
            await self._admin.list_queues()
        except SchemaError:
            await self._admin.install()

    async def create_standard_queue(self, name: str) -> None:
        """Create a queue with the usual defaults; one of this name stays as it is."""
        await self.create_queue(Queue(name=name))

    async def create_queue(self, queue: Queue) -> None:
        """Create a queue; one of its name stays as it is. Raises ValueError."""
        await self._admin.create_queue(queue.name, exist_ok=True, **queue.options())

    async def get_queue(self, name: str) -> Queue | None:
        """Look a queue up."""
        try:
            return Queue.found(await self._admin.get_queue(name))
        except QueueNotFoundError:
            return None

    async def get_queues(self) -> list[Queue]:
        """List all queues, by name."""
        return [Queue.found(info) for info in await self._admin.list_queues()]

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with all its jobs. Raises QueueInUseError for a dead letter queue."""
        await self._admin.delete_queue(name, force=True)

    async def send_job(self, job: Job) -> uuid.UUID:
        """Send a job; gives its id.

        Raises DuplicateMessageError for an id that is there, or where the queue's policy keeps it
        out, ThrottledError in the window of another job, PayloadError, ValueError.
        """
        sent = await self._producer(job.queue_name).enqueue(job.message())
        return identity_of(sent.message_id, sent.id)

    async def send_data(self, queue_name: str, data: Any) -> uuid.UUID:
        """Send a job with this data and nothing else; gives its id. Raises as `send_job`."""
        return await self.send_job(Job(queue_name=queue_name, data=data))

    async def fetch_job(self, queue_name: str) -> JobDetails | None:
        """Take the next job: active from now on, until it is ended or expires."""
        return next(iter(await self.fetch_jobs(queue_name, 1)), None)

    async def fetch_jobs(self, queue_name: str, batch_size: int) -> list[JobDetails]:
        """Take up to so many jobs, `max_batch_size` at most."""
        messages = await self._consumer(queue_name).dequeue_batch(batch_size)
        return [JobDetails.fetched(message, queue_name) for message in messages]

    async def get_job(self, queue_name: str, job_id: uuid.UUID) -> JobDetails | None:
        """Look a job up, wherever it is."""
        return await self.binding.run(self._steps.finding(queue_name, job_id))

    async def complete_job(self, queue_name: str, job_id: uuid.UUID, output: Any = None) -> bool:
        """Complete an active job, with output that is kept; False where it is not active."""
        return bool(await self.complete_jobs(queue_name, [job_id], output))

    async def complete_jobs(
        self, queue_name: str, job_ids: Iterable[uuid.UUID], output: Any = None
    ) -> int:
        """Complete active jobs, each with this output; gives how many were."""
        return await self.binding.run(self._steps.completing(queue_name, job_ids, output))

    async def fail_job(self, queue_name: str, job_id: uuid.UUID, details: Any = None) -> bool:
        """End the attempt of an active job, which failed; False where it is not active.

        It is due again after its retry delay, or failed when that was the last retry.
        """
        return bool(await self.fail_jobs(queue_name, [job_id], details))

    async def fail_jobs(
        self, queue_name: str, job_ids: Iterable[uuid.UUID], details: Any = None
    ) -> int:
        """End the attempts of active jobs, which failed of this; gives how many were."""
        return await self.binding.run(self._steps.failing(queue_name, job_ids, details))

    async def cancel_job(self, queue_name: str, job_id: uuid.UUID) -> bool:
        """Cancel a job, active or not; False where it is finished."""
        return bool(await self.cancel_jobs(queue_name, [job_id]))

    async def cancel_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID]) -> int:
        """Cancel jobs, active or not; gives how many were."""
        return await self.binding.run(self._steps.cancelling(queue_name, job_ids))

    async def resume_job(self, queue_name: str, job_id: uuid.UUID) -> bool:
        """Let a cancelled job wait again, as if never tried; False where it is not cancelled."""
        return bool(await self.resume_jobs(queue_name, [job_id]))

    async def resume_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID]) -> int:
        """Let cancelled jobs wait again; gives how many were."""
        return await self.binding.run(self._steps.resuming(queue_name, job_ids))

    async def delete_job(self, queue_name: str, job_id: uuid.UUID) -> bool:
        """Delete a job, whatever its state, so that its id may be sent again."""
        return bool(await self.delete_jobs(queue_name, [job_id]))

    async def delete_jobs(self, queue_name: str, job_ids: Iterable[uuid.UUID]) -> int:
        """Delete jobs, whatever their states; gives how many were."""
        return await self.binding.run(self._steps.deleting(queue_name, job_ids))

    async def close(self) -> None:
        """Stop its workers and free what it owns; what it fetched stays active. Idempotent."""
        self._steps.is_closed = True
        while self._consumers:
            await self._consumers.popitem()[1].close(release=False)
        while self._producers:
            await self._producers.popitem()[1].close()
        await self._admin.close()

    def _producer(self, queue: str) -> AsyncProducer:
        self._steps.check_open()
        if queue not in self._producers:
            self._producers[queue] = AsyncProducer(self, queue)
        return self._producers[queue]

    def _consumer(self, queue: str) -> AsyncConsumer:
        self._steps.check_open()
        if queue not in self._consumers:
            self._consumers[queue] = AsyncConsumer(self, queue)
            self._steps.follow(self._consumers[queue])
        return self._consumers[queue]


class AsyncClientBuilder(Connecting):
    """Makes an AsyncClient and connects it."""

    async def connect(self) -> AsyncClient:
        """Give the client, having made the tables if need be.

        Raises MissingConfigError where nothing names a database, UnavailableError.
        """
        client = AsyncClient(self._url, self._schema)
        try:
            await client.install()
        except BaseException:
            await client.close()
            raise
        return client
