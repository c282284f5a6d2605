"""What is no payload: refused with a PayloadError that says why, before anything is sent."""

from __future__ import annotations

import decimal
import math
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, model_serializer

from pgqrs import Admin, Config, Consumer, Json, PayloadError, Producer, UnavailableError


class Loose(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any


class Bad(BaseModel):
    @model_serializer
    def fail(self) -> dict[str, Any]:
        raise ValueError("s3cret")


def circular_list() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def circular_model() -> Loose:
    loop = Loose(value=None)
    loop.value = [loop]
    return loop


REFUSED = [
    (math.nan, "not JSON"),
    ([math.inf], "not JSON"),
    (Json(-math.inf), "not JSON"),
    ("NaN", "contains NaN"),
    ("[-Infinity]", "contains -Infinity"),
    ("1e400", "larger or longer"),
    ("[-1e99999999999]", "larger or longer"),
    ("1" + "0" * 400 + ".5", "larger or longer"),
    ("0." + "1" * 16_384, "larger or longer"),
    ("1" * 4301, "not JSON text"),
    (10**4301, "not JSON"),
    ("\0", "not JSON text"),
    ('"\\u0000"', "NUL"),
    ('{"a\\u0000": 1}', "NUL"),
    ('"\\\\\\u0000"', "NUL"),
    (["a\0b"], "NUL"),
    ({"\0": 1}, "NUL"),
    (["\\\0"], "NUL"),
    (["\ud800"], "surrogate"),
    ({"\udfff": 1}, "surrogate"),
    (["\ud83d\ude00"], "surrogate"),
    ('"\ud800"', "surrogate"),
    ('"\\ud800"', "surrogate"),
    ('"\\ude00\\ud83d"', "surrogate"),
    ('{"\\uDFFF": 1}', "surrogate"),
    ((1, 2), "payload is a tuple"),
    ([{"a": (1,)}], r"payload\[0\]\.a is a tuple"),
    ({1, 2}, "set"),
    (frozenset(), "frozenset"),
    ({1: 2}, "has the key 1, which is a int"),
    ({"a": [{None: 1}]}, r"payload\.a\[0\] has the key None"),
    ({True: 1}, "key True"),
    ({"1": 1, 1: 1}, "key 1"),
    (decimal.Decimal(1), "Decimal"),
    (uuid.uuid4(), "UUID"),
    (object(), "object"),
    (bytearray(b"{}"), "bytearray"),
    ([b"{}"], "bytes"),
    ([Json(1)], "Json"),
    (b"\xff", "not JSON text"),
    ("{}".encode("utf-16"), "not JSON text"),
    (b"\xef\xbb\xbf{}", "not JSON text"),
    ("", r"pgqrs\.Json"),
    ("hello", r"pgqrs\.Json"),
    ("{} {}", "not JSON text"),
    ("{'a': 1}", "not JSON text"),
    ("[1,]", "not JSON text"),
    ('"\x01"', "not JSON text"),
    ('"\\x41"', "not JSON text"),
    ("01", "not JSON text"),
    ("[" * 100_000, "deeper"),
    ("[" * 100_000 + "]" * 100_000, "deeper"),
    (circular_list(), "[Cc]ircular"),
    (Loose(value=b"\xff"), "Loose that has no JSON form"),
    (Loose(value=object()), "Loose that has no JSON form"),
    (circular_model(), "Loose that has no JSON form"),
    (Bad(), "Bad that has no JSON form"),
    (Loose(value={"a": [1.5, math.nan]}), "makes null"),
    (Loose(value=math.inf), "makes null"),
    (Loose(value="\0"), "NUL"),
]


@pytest.fixture
def producer() -> Iterator[Producer]:
    """A producer of a server that is not there: sending anything at all fails otherwise."""
    with Producer(Config.from_dsn("postgresql://127.0.0.1:1/nowhere"), "q") as producer:
        yield producer


def test_sending_fails(producer: Producer) -> None:
    """What is not refused here is sent, and that fails: so these tests can tell."""
    with pytest.raises(UnavailableError):
        producer.enqueue({})


@pytest.mark.parametrize(("payload", "reason"), REFUSED, ids=map(str, range(len(REFUSED))))
def test_refused(producer: Producer, payload: Any, reason: str) -> None:
    """What could not come back equal is refused with the reason, and nothing is sent."""
    with pytest.raises(PayloadError, match=reason) as caught:
        producer.enqueue(payload)
    assert isinstance(caught.value, ValueError)
    assert not caught.value.retryable
    message = str(caught.value)
    assert message.startswith("payload ")
    assert "s3cret" not in message
    assert len(message) < 300


def test_deep_object_is_refused(producer: Producer) -> None:
    """A value far deeper than Python can walk is refused like any other, not a RecursionError."""
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    for payload in (deep, Json(deep), Loose(value=deep)):
        with pytest.raises(PayloadError):
            producer.enqueue(payload)
    while deep:  # so that letting go of it needs no recursion either
        deep = deep[0]


def test_size_is_in_the_message(producer: Producer) -> None:
    """A payload that is too large says how large it is, what is allowed, and what to do."""
    with pytest.raises(PayloadError, match=r"1048577 bytes.*1048576.*max_payload_bytes"):
        producer.enqueue(Json("x" * (2**20 - 1)))


@pytest.mark.parametrize("index", [0, 3, 9])
def test_batch_names_the_index(producer: Producer, index: int) -> None:
    """One bad item of a batch is named by its index, and no item is sent."""
    payloads: list[Any] = [{"n": n} for n in range(10)]
    payloads[index] = {"n": math.nan}
    with pytest.raises(PayloadError, match=f"^item {index} of the batch: payload") as caught:
        producer.batch_enqueue(payload for payload in payloads)
    assert isinstance(caught.value.__cause__, PayloadError)


def test_bad_result_leaves_the_lease(admin: Admin, config: Config) -> None:
    """A result that is no JSON is refused before anything is sent: the message is still held."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue({})
        message = consumer.dequeue()
        assert message is not None
        for output in (math.nan, {1: 1}, ["\0"], object()):
            with pytest.raises(PayloadError):
                consumer.archive(message, output=output)
        assert consumer.archive(message, output="text").output == "text"
