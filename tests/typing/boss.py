"""What type checkers must see of the façade; never run, only checked by mypy and pyright."""

import datetime as dt
import uuid
from typing import assert_type

from pgqrs.aio.boss import AsyncClient
from pgqrs.boss import Client, Job, JobBuilder, JobDetails, Queue


def made() -> None:
    assert_type(Job.builder().queue_name("q").retry_backoff(), JobBuilder)
    assert_type(Job.builder().expire_in(dt.timedelta(minutes=1)).id(uuid.uuid4()).build(), Job)
    assert_type(Job(queue_name="q", data=[1], start_after=dt.datetime.now(dt.UTC)), Job)
    assert_type(Queue.builder().name("q").build(), Queue)
    Job(data=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def client(key: uuid.UUID) -> None:
    with Client.builder().schema("jobs").connect() as client:
        assert_type(client, Client)
        assert_type(client.send_job(Job(queue_name="q")), uuid.UUID)
        assert_type(client.send_data("q", {"a": 1}), uuid.UUID)
        assert_type(client.fetch_job("q"), JobDetails | None)
        assert_type(client.fetch_jobs("q", 3), list[JobDetails])
        assert_type(client.get_job("q", key), JobDetails | None)
        assert_type(client.complete_job("q", key, {"a": 1}), bool)
        assert_type(client.fail_jobs("q", [key]), int)
        assert_type(client.get_queue("q"), Queue | None)


async def async_client(key: uuid.UUID) -> None:
    async with await AsyncClient.builder().url("postgresql://h/d").connect() as client:
        assert_type(client, AsyncClient)
        assert_type(await client.send_data("q", 1), uuid.UUID)
        assert_type(await client.fetch_job("q"), JobDetails | None)
        assert_type(await client.cancel_jobs("q", [key]), int)
