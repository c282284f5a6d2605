"""What an application allows in its payloads, beyond what can be stored. No I/O.

What can be stored at all, and how large it may be, is for `pgqrs.payload` to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, field_validator

from pgqrs.errors import PayloadError
from pgqrs.payload import MAX_DEPTH

__all__ = ["ValidationConfig", "check", "checker"]

Fault = tuple[list[str | int], str]
"""The steps that lead to what breaks a rule, the last one first, and how it does."""


def _keys(given: Any) -> frozenset[str]:
    if isinstance(given, str):  # as in an environment variable
        return frozenset(filter(None, map(str.strip, given.split(","))))
    listed = isinstance(given, list | tuple | set | frozenset)
    if listed and all(isinstance(key, str) for key in given):
        return frozenset(given)
    raise ValueError("it is a list of keys, or their names with commas between")


Keys = Annotated[Collection[str], PlainValidator(_keys)]


class ValidationConfig(BaseModel):
    """What producers refuse to send although it could be stored: nothing, unless it is set.

    `Config.max_payload_bytes` limits the size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_string_length: Annotated[int, Field(ge=0)] | None = None
    """The most characters of a string, wherever it stands; keys are not counted."""
    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] | None = None
    """How deep lists and objects may nest: 1 is for those that hold no other."""
    forbidden_keys: Keys = frozenset()
    """Keys that no object may have, at whatever level."""
    required_keys: Keys = frozenset()
    """Keys that the payload, which is an object then, must have at its top; null is a value."""

    @field_validator("required_keys")
    @classmethod
    def _check_required(cls, keys: frozenset[str], info: ValidationInfo) -> frozenset[str]:
        both = keys.intersection(info.data.get("forbidden_keys", ()))
        if both:
            raise ValueError(f"{min(both)!r} is in forbidden_keys too, so that no payload would do")
        return keys


def checker(rules: ValidationConfig) -> Callable[[Any], None] | None:
    """Give what checks a value; None where there is no rule, so that no value is looked at."""
    return None if rules == ValidationConfig() else partial(check, rules)


def check(rules: ValidationConfig, value: Any) -> None:
    """Raise PayloadError, with the path to it, where a JSON value breaks a rule."""
    fault = _missing(value, rules) or _fault(value, rules, 1)
    if fault is not None:
        steps, reason = fault
        path = "payload" + "".join(map(_written, reversed(steps)))
        raise PayloadError(f"{path} {reason}", path)


def _missing(value: Any, rules: ValidationConfig) -> Fault | None:
    if not rules.required_keys:
        return None
    if not isinstance(value, dict):
        return [], "is not an object, and required_keys asks for one"
    missing = [key for key in rules.required_keys if key not in value]
    return ([min(missing)], "is missing, and one of required_keys") if missing else None


def _fault(value: Any, rules: ValidationConfig, depth: int) -> Fault | None:
    if isinstance(value, dict | list):
        return _fault_inside(value, rules, depth)
    most = rules.max_string_length
    if most is None or not isinstance(value, str) or len(value) <= most:
        return None
    return [], f"has {len(value)} characters, and max_string_length is {most}"


def _fault_inside(
    value: dict[str, Any] | list[Any], rules: ValidationConfig, depth: int
) -> Fault | None:
    if rules.max_depth is not None and depth > rules.max_depth:
        return [], f"is nested deeper than max_depth, which is {rules.max_depth}"
    steps: Iterable[tuple[str | int, Any]]
    steps = value.items() if isinstance(value, dict) else enumerate(value)
    for step, item in steps:
        if step in rules.forbidden_keys:
            return [step], "is one of forbidden_keys"
        fault = _fault(item, rules, depth + 1)
        if fault is not None:
            fault[0].append(step)
            return fault
    return None


def _written(step: str | int) -> str:
    return f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{json.dumps(step)}]"
