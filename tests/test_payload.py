"""Every JSON value comes back equal, whatever it holds, and whichever way it was given."""

from __future__ import annotations

import datetime as dt
import enum
import json
import sys
import threading
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel
from sqlalchemy import event

from pgqrs import Admin, Config, Consumer, Json, PayloadError, Producer
from pgqrs.payload import MAX_DEPTH, decode, encode, encode_all

BATCH: Final = 14
many = settings(
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],  # a failure shows the one payload that is to blame
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(characters, max_size=20) | st.text('"\\/{}[]:,eE+-.0123456789u\n\t', max_size=12)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
bigger = st.integers(0, 4290).map(lambda e: 7 - 10**e) | st.integers(-40, 300).map(
    lambda e: 10.0**e
)
leaves = st.none() | st.booleans() | numbers | bigger | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=12,
)
anything = st.recursive(
    leaves
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=4)
    | st.sampled_from("\ud800\0"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.none() | st.booleans() | numbers | st.text(max_size=4), inner, max_size=4
        )
        | st.tuples(inner)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=8,
)
digits = st.text("0123456789", min_size=1, max_size=25)
number_texts = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.just("0") | st.integers(1, 10**30),
    st.just("") | digits.map(".{}".format),
    st.just("") | st.integers(-99999, 99999).map("e{}".format) | st.sampled_from(["E+3", "e-003"]),
)


class Channel:
    """Sends payloads through the database, and notes the statements of its own thread."""

    def __init__(self, config: Config) -> None:
        self.producer = Producer(config, "q")
        self.consumer = Consumer(config, "q")
        self.statements: list[str] = []
        self.producer.enqueue(None)
        self.receive(1)
        event.listen(self.producer.binding.engine, "before_cursor_execute", self._count)

    def _count(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread():  # others beat, and notify later
            self.statements.append(statement)

    def receive(self, count: int) -> list[Any]:
        messages = self.consumer.dequeue_batch(count) if count else []
        assert all(self.consumer.delete_batch(messages))
        return [message.payload for message in messages]

    def through(self, payloads: list[Any]) -> list[Any]:
        """Give what comes back, after checking what the producer says of it."""
        sent = self.producer.batch_enqueue(payloads)
        received = self.receive(len(payloads))
        assert [message.payload for message in sent] == received
        return received

    def brings(self, payloads: list[Any], values: list[Any]) -> None:
        """Send payloads, and check that each comes back as its value."""
        for received, value in zip(self.through(payloads), values, strict=True):
            assert received == value

    def brings_or_refuses(self, payloads: list[Any]) -> int:
        """Send those that can be sent, check that the others are refused, and give how many."""
        fine: list[Any] = []
        for payload in payloads:
            try:
                encode(Json(payload))
            except PayloadError:
                assert self.refuses(Json(payload))
            else:
                fine.append(payload)
        self.brings([Json(payload) for payload in fine], fine)
        return len(fine)

    def refuses(self, payload: Any) -> bool:
        """Say whether a payload is refused, after checking that nothing was sent then."""
        before = len(self.statements)
        try:
            self.producer.enqueue(payload)
        except PayloadError:
            assert self.statements[before:] == []
            return True
        return False


@pytest.fixture
def channel(config: Config, admin: Admin) -> Iterator[Channel]:
    admin.create_queue("q")
    channel = Channel(config)
    yield channel
    channel.producer.close()
    channel.consumer.close()


@many
@given(st.lists(values, min_size=BATCH, max_size=BATCH))
def test_values_come_back_equal(channel: Channel, payloads: list[Any]) -> None:
    """A JSON value of any shape is accepted, and equals what is dequeued."""
    channel.brings([Json(payload) for payload in payloads], payloads)


@many
@given(st.lists(values, min_size=BATCH, max_size=BATCH), st.booleans(), st.sampled_from([None, 1]))
def test_text_comes_back_equal(
    channel: Channel,
    payloads: list[Any],
    ascii_only: bool,  # noqa: FBT001
    indent: int | None,
) -> None:
    """JSON text, as str or as bytes, escaped or not, means the value it spells."""
    spelled = [json.dumps(value, ensure_ascii=ascii_only, indent=indent) for value in payloads]
    channel.brings(spelled, payloads)
    channel.brings([text.encode() for text in spelled], payloads)


@many
@given(st.lists(number_texts, min_size=BATCH, max_size=BATCH))
def test_numbers_come_back_equal(channel: Channel, spelled: list[str]) -> None:
    """However a number is spelled, it is read back as Python reads it, or it is refused."""
    fine = [text for text in spelled if abs(json.loads(text)) != float("inf")]
    assert all(channel.refuses(text) for text in set(spelled) - set(fine))
    channel.brings(fine, [json.loads(text) for text in fine])


@many
@given(st.lists(anything, min_size=BATCH, max_size=BATCH))
def test_equal_or_refused(channel: Channel, payloads: list[Any]) -> None:
    """Any Python value at all comes back equal, or is refused before anything is sent."""
    channel.brings_or_refuses(payloads)


containers = st.lists(anything, max_size=4) | st.dictionaries(st.text(max_size=4), anything)


@many
@given(st.lists(containers, max_size=BATCH), st.sampled_from([None, 10, 40]))
def test_all_at_once_are_as_each_by_itself(payloads: list[Any], limit: int | None) -> None:
    """Or they are left to be looked at one by one."""
    texts = encode_all(payloads, limit)
    assert texts is None or texts == [encode(payload, limit) for payload in payloads]


def test_what_needs_no_closer_look() -> None:
    """Lists and objects are written at once, whatever letters they have."""
    payloads = [{"a": [1, 2.5, None, True]}, ["é", "\u20ac", "\\", '"', "]"], [], {}, [[["deep"]]]]
    payloads += [[1e23, -1e-7, "e-mail"], {"1e5": "2e+9"}]
    texts = encode_all(payloads, limit=200)
    assert texts is not None
    assert list(map(decode, texts)) == payloads
    assert texts == list(map(encode, payloads))


@pytest.mark.parametrize(
    "payload",
    ["text", 1, None, {1: 2}, [(1, 2)], [float("nan")], ["\0"], ["\ud800"], [1e300], ["é" * 50]],
)
def test_what_needs_a_closer_look(payload: Any) -> None:
    """One such payload, and all of its batch are looked at one by one."""
    assert encode_all([{}, payload, {}], limit=100) is None
    assert encode_all([{}, {}], limit=100) == ["{}", "{}"]


def test_what_is_too_deep_needs_a_closer_look() -> None:
    """Depth is that of each, and not of the list around them."""
    deep: list[Any] = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert encode_all([deep, deep]) is not None
    assert encode_all([deep, [deep]]) is None
    circle: list[Any] = []
    circle.append(circle)
    assert encode_all([circle]) is None


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_thousand_payloads_come_back_equal_or_are_refused(channel: Channel) -> None:
    """The same of as many, of which a good part must be of either kind."""
    tried: Counter[bool] = Counter()

    @settings(many, max_examples=50_000 // BATCH + 1)
    @given(st.lists(anything, min_size=BATCH, max_size=BATCH))
    def each(payloads: list[Any]) -> None:
        fine = channel.brings_or_refuses(payloads)
        tried.update({True: fine, False: len(payloads) - fine})

    each()
    assert tried.total() >= 50_000
    assert min(tried.values()) > 5_000, tried


@many
@given(st.lists(st.text(max_size=8) | st.binary(max_size=8), min_size=BATCH, max_size=BATCH))
def test_any_text_is_json_or_refused(channel: Channel, payloads: list[str | bytes]) -> None:
    """Any str or bytes is refused, or is the value Python reads in it."""
    fine = []
    for payload in payloads:
        try:
            encode(payload)
        except PayloadError:
            assert channel.refuses(payload)
        else:
            fine.append(payload)
    channel.brings(fine, [json.loads(payload) for payload in fine])


def nested(depth: int, *, objects: bool) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = {"in": value} if objects else [value]
    return value


@pytest.mark.parametrize("objects", [False, True])
def test_depth(channel: Channel, objects: bool) -> None:  # noqa: FBT001
    """As deep as the limit comes back, alone and in a batch; one more is refused."""
    deepest = nested(MAX_DEPTH, objects=objects)
    assert channel.through([deepest, json.dumps(deepest)]) == [deepest, deepest]
    for payload in (deepest, json.dumps(deepest)):
        too_deep = f"[{payload}]" if isinstance(payload, str) else [payload]
        with pytest.raises(PayloadError, match=f"deeper than {MAX_DEPTH}"):
            channel.producer.enqueue(too_deep)


def test_depth_is_not_the_number_of_brackets(channel: Channel) -> None:
    """Brackets side by side, or inside strings, are no depth."""
    payloads = [[[]] * 500, ["[" * 500], {'"[{\\': '"[{' * 500}]
    assert channel.through(payloads) == payloads


def test_size(channel: Channel) -> None:
    """A megabyte is fine in one message, and many of them in one batch."""
    payload = ["é" * (2**19 - 2)]
    assert len(encode(payload).encode()) == 2**20
    assert channel.through([payload] * 20) == [payload] * 20


class Colour(enum.StrEnum):
    RED = "red"


EASILY_LOST = [
    None,
    True,
    0,
    -0.0,
    10**4299,
    sys.float_info.max,
    sys.float_info.min,
    5e-324,
    1e16,
    1e22,
    1e23,
    -1.7976931348623157e308,
    123456789.123456789,
    {},
    [],
    [[]],
    {"": ""},
    {"a": {"b": [1, "1", 1.5, None, False]}},
    {"1e400": "1E5 \\u0000 \\ud800", "\\": '"1e999'},
    ["\x7f\x80\u2028\ufeff\ufffe\U0010ffff 😀 ñ n\u0303"],
    OrderedDict(b=1, a=2),
    defaultdict(list, {"a": [1]}),
    [Colour.RED, enum.IntEnum("N", "ONE").ONE],
]
SPELLED = [
    ("null", None),
    (" [1, 2]\r\n\t", [1, 2]),
    ('{"a": 1, "a": 2}', {"a": 2}),
    ('{"a": 1, "\\u0061": 2}', {"a": 2}),
    ('"\\ud83d\\ude00 \\/ \\u0001"', "😀 / \x01"),
    ('"\\\\u0000 \\\\ud800"', "\\u0000 \\ud800"),
    ("1e5", 100000),
    ("1E+2", 100),
    ("-0e9", 0),
    ("1e-400", 0),
    ("1e-99999999999", 0),
    ("0e99999999999", 0),
    ("1.0e308", 1e308),
    ("123456789012345678901234567890.5", 123456789012345678901234567890.5),
    ("0." + "0" * 400 + "1", 0),
    (b'{"\xc3\xa9": 1}', {"é": 1}),
]


def test_values_that_are_easily_lost(channel: Channel) -> None:
    """Extremes and look-alikes come back, in a batch and one by one."""
    channel.brings(EASILY_LOST, EASILY_LOST)
    for payload in EASILY_LOST:
        channel.producer.enqueue(payload)
        assert channel.receive(1) == [payload]


def test_text_means_its_value(channel: Channel) -> None:
    """JSON text means what Python's json module reads in it; the last of duplicate keys wins."""
    channel.brings([text for text, _ in SPELLED], [value for _, value in SPELLED])


class Address(BaseModel):
    street: str
    since: dt.date


class Person(BaseModel):
    name: str
    born: dt.datetime
    homes: tuple[Address, ...] = ()
    weight: float | None = None


def test_model(channel: Channel) -> None:
    """A pydantic model is sent as its JSON form, from which the model can be made again."""
    born = dt.datetime(1815, 12, 10, 1, 2, 3, tzinfo=dt.UTC)
    ada = Person(name="Ada", born=born, homes=(Address(street="é 1", since=born.date()),))
    [payload] = channel.through([ada])
    assert payload == ada.model_dump(mode="json")
    assert Person.model_validate(payload) == ada
    assert channel.through([RootModel({1: None, 2: 1.5})]) == [{"1": None, "2": 1.5}]


def test_root_model_and_marked_value(channel: Channel) -> None:
    """A bare string is sent by marking it; a root model is marked as it is."""
    payloads = [Json("text"), Json('{"a": 1}'), Json(None), RootModel[str]("text"), Json([1])]
    assert channel.through(payloads) == ["text", '{"a": 1}', None, "text", [1]]
    assert repr(Json("text")) == "Json('text')"


def test_payload_is_read_once(channel: Channel) -> None:
    """The value is parsed when first asked for, and is the same object then."""
    message = channel.producer.enqueue({"a": [1]})
    assert message.payload is message.payload
    assert decode(message.payload_json) == {"a": [1]}
    assert "payload" not in repr(message)
