"""What an application's own rules refuse: with the path, before anything is sent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from settings import shows
from sqlalchemy import Engine

from pgqrs import (
    Admin,
    Config,
    Json,
    Message,
    PartlyEnqueuedError,
    PayloadError,
    Producer,
    ValidationConfig,
)
from pgqrs.aio import AsyncProducer
from pgqrs.validation import check, checker

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


class User(BaseModel):
    name: str
    password: str = "hidden"


class SignUp(Message):
    user: User


def refused(value: Any, **rules: Any) -> str | None:
    """The path of what breaks a rule."""
    try:
        check(ValidationConfig(**rules), value)
    except PayloadError as error:
        return error.path if str(error).startswith(f"{error.path} ") else str(error)
    return None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("abc", None),
        ("abcd", "payload"),
        ("\N{SNOWMAN}" * 3, None),
        ([1234, None, True, "abc"], None),
        (["abc", ["abcd"]], "payload[1][0]"),
        ({"a long key": {"b": "abcd"}}, 'payload["a long key"].b'),
        ({"a\nb": ["", "abcd"]}, 'payload["a\\nb"][1]'),
    ],
)
def test_max_string_length(value: Any, path: str | None) -> None:
    """It counts the characters of every string, but not of keys."""
    assert refused(value, max_string_length=3) == path


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (1, None),
        ({"a": [1]}, None),
        ({"a": [[]]}, "payload.a[0]"),
        ([[], {"a": {}}], "payload[1].a"),
        ({"a": "[[[["}, None),
    ],
)
def test_max_depth(value: Any, path: str | None) -> None:
    """It counts lists and objects within each other, empty ones too."""
    assert refused(value, max_depth=2) == path


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"Password": 1, "pass": "password"}, None),
        (["password"], None),
        ({"password": None}, "payload.password"),
        ({"user": {"password": "x"}}, "payload.user.password"),
        ([{"users": [{}, {"password": "x"}]}], "payload[0].users[1].password"),
        ({"a": {"card number": 1}}, 'payload.a["card number"]'),
    ],
)
def test_forbidden_keys(value: Any, path: str | None) -> None:
    """They are found at every level, as they are written; a value of that text is no key."""
    assert refused(value, forbidden_keys=["password", "card number"]) == path


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"tenant": None, "id": 0, "more": 1}, None),
        ({"id": 1}, "payload.tenant"),
        ({}, "payload.id"),
        ({"id": 1, "user": {"tenant": 1}}, "payload.tenant"),
        ([{"id": 1, "tenant": 1}], "payload"),
        ("id tenant", "payload"),
    ],
)
def test_required_keys(value: Any, path: str | None) -> None:
    """They are wanted at the top, of an object; null is there."""
    assert refused(value, required_keys=["tenant", "id"]) == path


@given(JSON, st.integers(1, 4))
def test_depth_is_that_of_the_text(value: Any, most: int) -> None:
    """The depth is how many brackets are open at once, and nothing without rules is refused."""
    depth = deepest = 0
    for bracket in re.sub(r'"(?:[^"\\]|\\.)*"', "", json.dumps(value)):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket, 0)
        deepest = max(deepest, depth)
    assert (refused(value, max_depth=most) is None) is (deepest <= most)
    assert refused(value) is None


def test_no_rules_cost_nothing() -> None:
    """Without rules there is nothing that would look at a payload."""
    assert checker(ValidationConfig()) is None
    assert checker(ValidationConfig(forbidden_keys=[])) is None
    for rule in ({"max_depth": 1}, {"max_string_length": 0}, {"required_keys": "a"}):
        assert checker(ValidationConfig(**rule)) is not None


@pytest.fixture
def producer(dsn: str, admin: Admin) -> Iterator[Producer]:
    admin.create_queue("q")
    rules = ValidationConfig(
        max_string_length=8, max_depth=3, forbidden_keys={"password"}, required_keys={"user"}
    )
    with Producer(Config.from_dsn(dsn, validation=rules), "q") as producer:
        yield producer


@shows("validation")
@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({"user": {"password": "x"}}, "payload.user.password"),
        ('{"user": {"password": "x"}}', "payload.user.password"),
        (b'{"user": {"p\\u0061ssword": "x"}}', "payload.user.password"),
        (Json({"user": {"password": "x"}}), "payload.user.password"),
        (SignUp(user=User(name="Ann")), "payload.user.password"),
        (User(name="Ann"), "payload.user"),
        ({"user": "a longer name"}, "payload.user"),
        ({"user": [[[]]]}, "payload.user[0][0]"),
        (7, "payload"),
    ],
)
def test_a_payload_that_breaks_a_rule_is_not_sent(
    producer: Producer, admin: Admin, payload: Any, path: str
) -> None:
    """Whatever it is made of, what a consumer would see is looked at; nothing is inserted."""
    for send in (producer.enqueue, partial(producer.enqueue_delayed, delay=5)):
        with pytest.raises(PayloadError) as caught:
            send(payload)
        assert (caught.value.path, caught.value.index) == (path, None)
    assert producer.enqueue({"user": {"name": "Ann"}}).payload == {"user": {"name": "Ann"}}
    assert admin.queue_metrics("q").total_messages == 1


def test_a_batch_names_the_item(producer: Producer, admin: Admin, engine: Engine) -> None:
    """One that breaks a rule keeps all of its batch out, also in a transaction of the caller's."""
    good, bad = {"user": 1}, {"user": {"password": 1}}
    sentence = r"^item 2 of the batch: payload\.user\.password is one of forbidden_keys$"
    with pytest.raises(PayloadError, match=sentence) as caught:
        producer.batch_enqueue([good, good, bad, good])
    assert (caught.value.path, caught.value.index) == ("payload.user.password", 2)
    with engine.begin() as connection:
        with pytest.raises(PayloadError, match="item 0"):
            producer.within(connection).batch_enqueue([bad])
        producer.within(connection).enqueue(good)
    assert admin.queue_metrics("q").total_messages == 1


def test_a_batch_in_parts_breaks_off(dsn: str, admin: Admin) -> None:
    """The chunks before it are in; the cause has the path, and the index in the whole batch."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, enqueue_chunk_rows=2, validation={"max_string_length": 1})
    with Producer(config, "q") as producer:
        with pytest.raises(PartlyEnqueuedError) as caught:
            producer.batch_enqueue(["1", "2", "3", "4", '["ab"]'], atomic=False)
        assert caught.value.enqueued == 2
        cause = caught.value.__cause__
        assert isinstance(cause, PayloadError)
        assert (cause.path, cause.index) == ("payload[0]", 4)


def test_size_comes_first(dsn: str) -> None:
    """What is too large is refused for that, and has no path."""
    config = Config.from_dsn(dsn, max_payload_bytes=9, validation={"forbidden_keys": ["password"]})
    with Producer(config, "q") as producer, pytest.raises(PayloadError, match="limit is 9") as one:
        producer.enqueue({"password": 1})
    assert one.value.path is None


def test_under_asyncio(dsn: str, admin: Admin) -> None:
    """The rules hold there just so."""
    admin.create_queue("q")

    async def main() -> None:
        config = Config.from_dsn(dsn, validation={"forbidden_keys": ["password"]})
        async with AsyncProducer(config, "q") as producer:
            with pytest.raises(PayloadError, match=r"^payload\.password is"):
                await producer.enqueue({"password": 1})
            with pytest.raises(PayloadError, match=r"^item 1 of the batch: payload\.password is"):
                await producer.batch_enqueue([{}, {"password": 1}])

    asyncio.run(main())
    assert admin.queue_metrics("q").total_messages == 0
