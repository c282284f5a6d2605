"""Payloads to JSON text and back, so that what is dequeued equals what was enqueued.

Everything travels as text through this module, never through an engine's own JSON hooks. A payload
that would not come back equal (under Python's ``==``) is refused before anything is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from pgqrs.errors import PayloadError

__all__ = ["MAX_DEPTH", "Json", "decode", "encode", "encode_all", "validated"]

B = TypeVar("B", bound=BaseModel)

MAX_DEPTH: Final = 200
"""How deep lists and objects may nest: far below where any JSON parser of a consumer gives up."""


def _writer() -> Callable[[Any], str]:
    """Give what writes JSON: json.dumps puts together anew what can be kept."""
    plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # not CPython
        return plain.encode
    how = (plain.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    # The first argument finds circles, and is for one value.
    return lambda value: "".join(make({}, *how)(value, 0))


_written = _writer()
_parsed = json.JSONDecoder().raw_decode

_PLAIN: Final = frozenset({dict, list})
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
# A string, or a number written with an exponent (the group); strings are matched to be skipped.
# Digits are looked at once each, from where their number begins.
_EXPONENT = re.compile(_STRING.pattern + r"|(?<![\d.-])(-?\d++(?:\.\d++)?+[eE][+-]?\d++)")
_MAYBE_EXPONENT = re.compile(r"\d[eE][+-]?\d")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_MOST_BYTES: Final = 4  # of a character
_LARGE: Final = 1e16  # from here on Python writes a float with an exponent
_LONGEST_NUMBER: Final = 16_000  # PostgreSQL keeps 16,383 digits after the point


class Json:
    """Marks a value as JSON whatever its type: ``Json("text")`` sends the string ``"text"``."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Json({self.value!r})"


def encode(
    payload: Any, limit: int | None = None, check: Callable[[Any], None] | None = None
) -> str:
    """Give the JSON text of a payload.

    `str` and `bytes` are JSON text already; a pydantic model is dumped; `Json` and anything else
    is a JSON value. `limit` is the most bytes the text may have; `check` is given the value that
    will come back, and refuses it by raising. Raises PayloadError for what is not JSON, would not
    come back equal (a tuple, a set, a key that is not a string, NaN), cannot be held by PostgreSQL
    (NUL, a lone surrogate), nests deeper than `MAX_DEPTH`, or is too large.
    """
    if type(payload) not in _PLAIN and isinstance(payload, str | bytes):
        text = _checked_text(payload)
        exponents = _MAYBE_EXPONENT.search(text) is not None
    else:
        text = _dumped(_value_of(payload))
        exponents = _has_exponents(text)
    if "\\u0000" in text and _ESCAPED_NUL.search(text):
        raise PayloadError("payload contains a NUL character, which PostgreSQL cannot hold")
    if exponents:
        text = _EXPONENT.sub(_plain_number, text)
    _check_size(text, limit)
    if check is not None:
        check(decode(text))
    return text


def encode_all(payloads: list[Any], limit: int | None = None) -> list[str] | None:
    """Give the JSON texts of lists and objects, all written at once, or None.

    None where one of them needs a closer look, which `encode` takes: then it may be refused.
    """
    if not payloads or not _PLAIN.issuperset(map(type, payloads)):
        return None
    try:
        whole = _written(payloads)
        if "\\u0000" in whole:
            return None
        texts = _read_back(whole, payloads)
        if _has_exponents(whole):
            texts = [_EXPONENT.sub(_plain_number, t) if _has_exponents(t) else t for t in texts]
        whole.encode()  # half a surrogate pair cannot be
        if limit is not None and _MOST_BYTES * sum(map(len, texts)) > limit:
            for text in texts:
                _check_size(text, limit)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return texts


def validated(model: type[B], value: Any) -> B:
    """Give a JSON value as a pydantic model. Raises PayloadError, with what does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise PayloadError(f"payload does not fit {model.__name__}: {error}") from error


def decode(text: str) -> Any:
    """Give the value of JSON text that `encode` made or PostgreSQL kept."""
    return _parsed(text if text[0] > " " else text.lstrip())[0]


def _value_of(payload: Any) -> Any:
    if type(payload) in _PLAIN:  # which pydantic takes longer to tell than JSON to write
        return payload
    if isinstance(payload, BaseModel):
        return _dumped_model(payload)
    return payload.value if isinstance(payload, Json) else payload


def _dumped(value: Any) -> str:
    try:
        text = _written(value)
        _check_depth(text)
        if _parsed(text)[0] != value:
            raise PayloadError(
                f"payload would not come back equal: {_difference(value)}; use lists, strings,"
                " numbers, booleans, None and objects with string keys"
            )
    except RecursionError:
        raise PayloadError(_too_deep()) from None
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, PayloadError):
            raise
        raise PayloadError(f"payload is not JSON: {error}") from error
    return text


def _read_back(whole: str, values: list[Any]) -> list[str]:
    """Cut the text of a list into those of its values, each of which is seen to come back equal."""
    texts: list[str] = []
    start = 1
    for value in values:
        came_back, end = _parsed(whole, start)
        text = whole[start:end]
        _check_depth(text)
        if came_back != value:
            raise ValueError
        texts.append(text)
        start = end + 1
    return texts


def _has_exponents(text: str) -> bool:
    # As Python writes them; a single character is looked for several times faster than two.
    return ("+" in text and "e+" in text) or ("-" in text and "e-" in text)


def _dumped_model(model: BaseModel) -> Any:
    try:
        value = model.model_dump(mode="json")
        lost = _loses_a_number(model.model_dump(), value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(f"payload is a {type(model).__name__} that has no JSON form") from error
    if lost:
        raise PayloadError("payload contains NaN or an infinity, which pydantic makes null")
    return value


def _loses_a_number(value: Any, dumped: Any) -> bool:
    if dumped is None:
        return isinstance(value, float)
    if isinstance(value, dict) and isinstance(dumped, dict):
        value, dumped = value.values(), dumped.values()
    elif not isinstance(dumped, list) or not isinstance(value, list | tuple | set | frozenset):
        return False
    return any(map(_loses_a_number, value, dumped))


def _checked_text(payload: str | bytes) -> str:
    try:
        text = payload.decode() if isinstance(payload, bytes) else payload
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_checked_float)
        _check_depth(text)
        if _ESCAPED_SURROGATE.search(text):
            return _written(value)
    except RecursionError:
        raise PayloadError(_too_deep()) from None
    except ValueError as error:
        if isinstance(error, PayloadError):
            raise
        raise PayloadError(
            f"payload is a string but not JSON text ({error}): to send a plain string use"
            " pgqrs.Json(...)"
        ) from error
    return text


def _refuse_constant(name: str) -> None:
    raise PayloadError(f"payload contains {name}, which is not JSON")


def _checked_float(token: str) -> float:
    number = float(token)
    if number in (float("inf"), float("-inf")) or len(token) > _LONGEST_NUMBER:
        raise PayloadError("payload contains a number that is larger or longer than a float")
    return number


def _plain_number(match: re.Match[str]) -> str:
    # jsonb writes 1e23 as the integer 10**23, which no longer equals the float: send all its
    # digits and a fraction, so that it is read back as the same float.
    token = match[1]
    if token is None:
        return match[0]
    number = float(token)
    return f"{number:.1f}" if abs(number) >= _LARGE else repr(number) if number == 0 else token


def _check_size(text: str, limit: int | None) -> None:
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise PayloadError(
            "payload contains half of a surrogate pair, which is not a character"
        ) from None
    if limit is not None and size > limit:
        raise PayloadError(
            f"payload has {size} bytes, and the limit is {limit}: store it elsewhere and send a"
            " reference, or raise max_payload_bytes"
        )


def _check_depth(text: str) -> None:
    if len(text) <= 2 * MAX_DEPTH or text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise PayloadError(_too_deep())


def _too_deep() -> str:
    return f"payload nests deeper than {MAX_DEPTH} levels"


def _difference(value: Any, path: str = "payload") -> str:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{path} has the key {key!r}, which is a {type(key).__name__}"
            if json.loads(json.dumps(item)) != item:
                return _difference(item, f"{path}.{key}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            if json.loads(json.dumps(item)) != item:
                return _difference(item, f"{path}[{index}]")
    return f"{path} is a {type(value).__name__}"
