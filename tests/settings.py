"""Configurations to look at, and files to read them from."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from pgqrs import Config, ValidationConfig

DSN: Final = "postgresql://ann:s3cret@db.example:6543/app"

SHOWN: Final[set[str]] = set()
"""The settings of which a test shows what they do."""


def shows(*keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a test as the one that shows what these settings do."""
    SHOWN.update(keys)
    return lambda test: test


def url_of(config: Config) -> str:
    return config.url.render_as_string(hide_password=False)


def write(name: str, content: str) -> Path:
    path = Path(name)
    path.write_text(textwrap.dedent(content), encoding="utf-8")
    return path


def leave_nothing_around(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Have no setting in the environment, and no file in the working directory."""
    for name in ("DATABASE_URL", "PGQRS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, field in Config.model_fields.items():
        monkeypatch.delenv(f"PGQRS_{(field.alias or name).upper()}", raising=False)
    for name in ValidationConfig.model_fields:
        monkeypatch.delenv(f"PGQRS_VALIDATION_{name.upper()}", raising=False)
    monkeypatch.chdir(directory)
