"""Make and drop whole databases: for tests, which get copies of one that is prepared."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Executable, text

__all__ = ["create", "drop"]

_FILE_COPY: Final = 15
"""The first version that would otherwise write all of a copy to the WAL."""


def create(name: str, template: str, server_version: int) -> Executable:
    """Make a database as a copy of another one, which nobody may be connected to."""
    strategy = " STRATEGY FILE_COPY" if server_version >= _FILE_COPY else ""
    return text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{strategy}')


def drop(name: str) -> Executable:
    """Drop a database, and end the sessions in it."""
    return text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
