"""Where settings come from: arguments, the environment and a YAML file, merged. Checks no value.

Per key an argument wins over the environment, that over the file, that over the default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from pgqrs.errors import InvalidConfigError, MissingConfigError
from pgqrs.validation import ValidationConfig

__all__ = ["PARTS", "RULES", "Source", "environment", "merged", "read", "surroundings"]

PARTS: Final = ("host", "port", "username", "password", "database")
"""The keys that can stand for a DSN."""
RULES: Final = "validation"
"""The key that holds settings of its own."""
_FILES: Final = ("pgqrs.yaml", "pgqrs.yml")
_GROUPS: Final = ("database", "queue", "performance")

Source = tuple[str, Mapping[str, Any]]
"""What a source is called in errors, and its values."""


def merged(sources: Iterable[Source]) -> tuple[dict[str, Any], dict[str, str]]:
    """Give each setting from its strongest source, and which that is."""
    settings: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, values in sources:
        named = "dsn" in settings  # which leaves nothing to weaker sources' parts
        for key, value in _flat(values, name).items():
            if key == RULES and isinstance(value, Mapping | None):
                rules = settings.setdefault(key, {})
                for rule, item in (value or {}).items():
                    if isinstance(rules, dict) and str(rule) not in rules:
                        rules[str(rule)], origins[f"{key}.{rule}"] = item, name
            elif key not in settings and not (named and key in PARTS):
                settings[key], origins[key] = value, name
    return settings, origins


def surroundings(keys: Iterable[str], path: str | os.PathLike[str] | None = None) -> list[Source]:
    """Give the environment and the file, which is `path` or found where files are looked for."""
    named = path or os.environ.get("PGQRS_CONFIG_FILE")
    found = named or next((name for name in _FILES if Path(name).is_file()), None)
    sources: list[Source] = [("environment", environment(keys))]
    sources.append((f"file {found}", read(found)) if found else (f"files {_FILES}", {}))
    return sources


def environment(keys: Iterable[str]) -> dict[str, Any]:
    """Give what the environment says of these keys."""
    values = _variables("PGQRS_", keys)
    rules = _variables(f"PGQRS_{RULES.upper()}_", ValidationConfig.model_fields)
    if rules:
        values.setdefault(RULES, rules)
    dsn = values.pop("dsn", "") or os.environ.get("DATABASE_URL")  # empty: as good as unset
    return values | {"dsn": dsn} if dsn else values


def _variables(prefix: str, keys: Iterable[str]) -> dict[str, Any]:
    found = {key: os.environ.get(prefix + key.upper()) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Give what a file says. Raises MissingConfigError; InvalidConfigError where it is not YAML."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise MissingConfigError(
            f"configuration file {os.fspath(path)!r} cannot be read: {error.strerror}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = f"it is not YAML (line {mark.line + 1})" if mark else "it is not YAML in UTF-8"
        # The parser's own message quotes the line, with any password in it.
        raise InvalidConfigError("(whole file)", f"file {os.fspath(path)}", reason) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        reason = "it holds no mapping of keys to values"
        raise InvalidConfigError("(whole file)", f"file {os.fspath(path)}", reason)
    return values


def _flat(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = value if name in _GROUPS and isinstance(value, Mapping) else {name: value}
        if name in _GROUPS and value is None:  # a heading with nothing under it
            inner = {}
        for key, item in inner.items():
            canonical = "schema" if key == "schema_" else str(key)
            if canonical in flat:
                raise InvalidConfigError(canonical, source, "it is given twice")
            flat[canonical] = item
    return flat
