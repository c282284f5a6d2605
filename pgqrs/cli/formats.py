"""Results for programs: JSON, YAML and CSV, whole or line by line. Tables are in `render`.

Fields are those of the library's values, instants ISO 8601 and durations seconds. A cell of CSV
holds JSON where a value is not plain, and always for what is JSON in the database.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import io
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol, TextIO

__all__ = [
    "JSON_FIELDS",
    "Format",
    "Rows",
    "document",
    "field_names",
    "fields",
    "json_line",
    "rows",
]

JSON_FIELDS: Final = ("payload", "headers", "output", "error", "options")
"""Fields that are JSON in the database."""

Record = Mapping[str, Any]


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


class Rows(Protocol):
    """Where things are printed one by one, as they come."""

    def add(self, record: Record) -> None:
        """Print one."""

    def flush(self) -> None:
        """Have what was printed arrive."""


def document(form: Format, value: Any, columns: Sequence[str], *, ascii_only: bool) -> str:
    """Give a thing (a mapping) or a list of them as one document.

    `columns` are the header of a CSV without a row.
    """
    if form is Format.JSON:
        return json.dumps(value, indent=2, ensure_ascii=ascii_only, default=_plain) + "\n"
    if form is Format.YAML:
        return _yaml(value, ascii_only=ascii_only)
    records = [value] if isinstance(value, Mapping) else value
    text = io.StringIO()
    lines = _Csv(text)
    lines.begin(records[0] if records else columns)
    for record in records:
        lines.add(record)
    return text.getvalue()


def rows(form: Format, stream: TextIO, columns: Sequence[str]) -> Rows:
    """Give what prints things one by one: lines of JSON, documents of YAML's list, or CSV.

    `columns` are the header of a CSV, which comes at once.
    """
    if form is Format.CSV:
        lines = _Csv(stream)
        lines.begin(columns)
        return lines
    return _YamlItems(stream) if form is Format.YAML else _JsonLines(stream)


def json_line(value: Any, *, ascii_only: bool = False) -> str:
    """Give a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=ascii_only, default=_plain)


class _ToStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def flush(self) -> None:
        self._stream.flush()


class _JsonLines(_ToStream):
    def add(self, record: Record) -> None:
        self._stream.write(json_line(record, ascii_only=_is_narrow(self._stream)) + "\n")


class _YamlItems(_ToStream):
    def add(self, record: Record) -> None:
        self._stream.write(_yaml([record], ascii_only=_is_narrow(self._stream)))


class _Csv(_ToStream):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._writer = csv.writer(stream, lineterminator="\n")

    def begin(self, names: Iterable[str]) -> None:
        self._writer.writerow(names)

    def add(self, record: Record) -> None:
        self._writer.writerow([_cell(name, value) for name, value in record.items()])


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and name not in JSON_FIELDS:
        return str(value)
    text = json_line(value)
    return json.loads(text) if isinstance(value, dt.datetime) else text


def _yaml(value: Any, *, ascii_only: bool) -> str:
    import yaml

    plain = json.loads(json.dumps(value, default=_plain))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=not ascii_only)
    return text


def _is_narrow(stream: TextIO) -> bool:
    return "utf" not in (getattr(stream, "encoding", None) or "utf").lower()


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, dt.timedelta):
        seconds = value.total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    if dataclasses.is_dataclass(value):
        return fields(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def fields(value: Any) -> dict[str, Any]:
    """Give the public fields of one of the library's values, and its properties."""
    if isinstance(value, Mapping):
        return dict(value)
    return {name: getattr(value, name) for name in field_names(type(value))}


def field_names(kind: type[Any]) -> list[str]:
    """Name what `fields` gives of a value of this type."""
    stored = [field.name for field in dataclasses.fields(kind)]
    computed = [name for name, item in vars(kind).items() if isinstance(item, property)]
    return [n for n in stored if not n.startswith("_") and not n.endswith("_json")] + computed
