"""Bytes from atheris, which looks for the ones that reach new code, against what reads text.

``make fuzz`` runs it for two minutes; what it stops at is left in a file ``crash-*``. Payloads are
refused or mean what Python's json reads in them; DSNs and files are configurations or ConfigErrors;
names, options and durations are taken or refused by ValueError or TypeError.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["pgqrs", "yaml", "json", "sqlalchemy.engine.url"]):
    from pgqrs import Config, ConfigError, Json, PayloadError
    from pgqrs.checks import checked_ids, checked_name, checked_status
    from pgqrs.config import validated_schema
    from pgqrs.new_message import item
    from pgqrs.payload import decode, encode
    from pgqrs.types import span

FILE = Path(tempfile.mkdtemp()) / "pgqrs.yaml"


def payload(data: bytes) -> None:
    for given in (data, data.decode("utf-8", "replace")):
        with contextlib.suppress(PayloadError):
            assert decode(encode(given)) == json.loads(given)


def value(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for given in (text, {text: [text]}, [text, {"a": text}]):
        with contextlib.suppress(PayloadError):
            assert decode(encode(Json(given))) == given


def dsn(data: bytes) -> None:
    text = data.decode("latin-1")
    for given in (text, f"postgresql://{text}", f"postgresql://h/d?{text}"):
        with contextlib.suppress(ConfigError):
            repr(Config.from_dsn(given).url)


def file(data: bytes) -> None:
    FILE.write_bytes(data)
    with contextlib.suppress(ConfigError):
        repr(Config.from_file(FILE))


def words(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    checks: tuple[Callable[[Any], Any], ...] = (checked_name, checked_status, validated_schema)
    for check in (*checks, checked_ids, span):
        with contextlib.suppress(ValueError, TypeError):
            check(text)
    for option in ("singleton_key", "message_id", "dead_letter", "deliver_at", "headers"):
        with contextlib.suppress(ValueError, TypeError):
            item("1", None, {option: text})


TARGETS = (payload, value, dsn, file, words)


def one(data: bytes) -> None:
    """The first byte says which of them the rest is for."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
