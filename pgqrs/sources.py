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

__all__ = [
    "ENVIRONMENT",
    "PARTS",
    "RULES",
    "Source",
    "environment",
    "merged",
    "read",
    "strange_variables",
    "surroundings",
]

PARTS: Final = ("host", "port", "username", "password", "database")
"""The keys that can stand for a DSN."""
RULES: Final = "validation"
"""The key that holds settings of its own."""
ENVIRONMENT: Final = "environment"
"""What the environment is called as a source; of a setting, the variable is named."""
_NO_SETTINGS: Final = {"PGQRS_CONFIG_FILE", "PGQRS_PG_BINDIR", "PGQRS_TEST_DSN"}
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
                        rules[str(rule)] = item
                        origins[f"{key}.{rule}"] = _origin(name, f"{key}.{rule}")
            elif key not in settings and not (named and key in PARTS):
                settings[key], origins[key] = value, _origin(name, key)
    return settings, origins


def surroundings(keys: Iterable[str], path: str | os.PathLike[str] | None = None) -> list[Source]:
    """Give the environment and the file, which is `path` or found where files are looked for."""
    named = path or os.environ.get("PGQRS_CONFIG_FILE")
    found = named or next((name for name in _FILES if Path(name).is_file()), None)
    sources: list[Source] = [(ENVIRONMENT, environment(keys))]
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


def strange_variables(keys: Iterable[str]) -> list[str]:
    """Give the variables that are named like settings and are none."""
    known = {f"PGQRS_{key.upper()}" for key in keys}
    known |= {f"PGQRS_{RULES.upper()}_{rule.upper()}" for rule in ValidationConfig.model_fields}
    found = (name for name in os.environ if name.startswith("PGQRS_"))
    return sorted(name for name in found if name not in known | _NO_SETTINGS)


def _origin(source: str, key: str) -> str:
    if source != ENVIRONMENT:
        return source
    variable = "PGQRS_" + key.replace(".", "_").upper()
    if key == "dsn" and not os.environ.get(variable):
        variable = "DATABASE_URL"
    return f"environment variable {variable}"


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
