"""Where the revision files are, and what they are called; runs none of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from alembic.script import Script, ScriptDirectory

from pgqrs.errors import SchemaError

__all__ = ["head", "history", "is_newer", "script_location", "steps"]


_NUMBERED: Final = re.compile(r"pgqrs_\d{4}")


def script_location() -> Path:
    """Give the folder of the revision files: inside the wheel, or beside an editable install."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_alembic", package.parent / "alembic"):
        if (folder / "versions").is_dir():
            return folder
    raise SchemaError(
        "pgqrs's migration scripts are missing from this installation: reinstall pgqrs"
    )


def history() -> list[Script]:
    """Give every revision that this version of pgqrs knows, the oldest first."""
    return [*ScriptDirectory(str(script_location())).walk_revisions()][::-1]


def head() -> str:
    """Give the newest revision that this version of pgqrs knows."""
    newest = ScriptDirectory(str(script_location())).get_current_head()
    if newest is None:
        raise SchemaError("pgqrs's migration scripts hold no revision: reinstall pgqrs")
    return newest


def is_newer(revision: str | None) -> bool:
    """Say whether a revision comes after all that this version of pgqrs knows.

    They are numbered, and the tables of a later one serve an earlier pgqrs: revisions add.
    """
    return bool(revision and _NUMBERED.fullmatch(revision)) and str(revision) > head()


def steps(after: str | None, to: str | None) -> list[Script]:
    """Give the revisions that come after `after`, up to and with `to`, the oldest first.

    None stands before the first. Raises SchemaError for one that this pgqrs does not know, and
    where `to` comes first.
    """
    known = history()
    names = [script.revision for script in known]
    first, last = _position(after, names), _position(to, names)
    if last < first:
        raise SchemaError(
            f"pgqrs's revision {after} comes after {to or 'the empty schema'}: exchange the two,"
            " or use the other of migrations.upgrade() and migrations.downgrade()"
        )
    return known[first:last]


def _position(name: str | None, names: list[str]) -> int:
    if name is None:
        return 0
    if name in names:
        return names.index(name) + 1
    if name in ("head", "base"):
        raise SchemaError(
            f"a revision must do the same each time, and {name!r} moves with the package: name"
            f" one of pgqrs's revisions (the newest is {names[-1]}), or None for the empty schema"
        )
    raise SchemaError(
        f"this pgqrs knows no revision {name!r}, its newest is {names[-1]}: upgrade the pgqrs"
        " package, or name one that it knows"
    )
