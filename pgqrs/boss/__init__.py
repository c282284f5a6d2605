"""The queue in the words of pg-boss and pgboss-rs: clients, jobs by UUID, queues with defaults.

Another door to the same tables and operations, for code that comes from there. Under asyncio:
`pgqrs.aio.boss`.
"""

from __future__ import annotations

from pgqrs.boss.client import Client, ClientBuilder
from pgqrs.boss.job import Job, JobBuilder, JobDetails, JobState
from pgqrs.boss.queue import Queue, QueueBuilder
from pgqrs.policy import QueuePolicy

__all__ = [
    "Client",
    "ClientBuilder",
    "Job",
    "JobBuilder",
    "JobDetails",
    "JobState",
    "Queue",
    "QueueBuilder",
    "QueuePolicy",
]
