"""The operating system's user that the server runs as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import NamedTuple

from pgqrs.errors import EmbeddedPostgresError

UNPRIVILEGED = ("postgres", "nobody")


class Account(NamedTuple):
    """An operating system's user, with its primary group."""

    name: str
    uid: int
    gid: int

    def can_enter(self, directory: Path) -> bool:
        """Whether the account can reach a directory and what is in it; for root to ask."""
        try:
            answer = subprocess.run(  # noqa: S603
                ["test", "-x", directory],  # noqa: S607
                check=False,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=[],
            )
        except OSError as error:
            raise EmbeddedPostgresError(
                f"a program cannot be run as user {self.name!r}, which PostgreSQL needs: {error}"
            ) from error
        return answer.returncode == 0


def server_account(user: str | None, home: Path | None) -> Account | None:
    """Choose the account for a server; None is the caller itself.

    Root's servers run as `user`, else as the owner of the data kept in `home`, else as `postgres`
    or `nobody`. Raises EmbeddedPostgresError where the caller may not run one as `user`.
    """
    if os.geteuid() != 0:
        if user is not None and _look_up(user).uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"only root can run a server as user {user!r}: leave `user` out"
            )
        return None
    if user is not None:
        return _look_up(user)
    return (_owner(home) if home else None) or _unprivileged()


def _look_up(user: str) -> Account:
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise EmbeddedPostgresError(f"there is no user {user!r} to run the server as") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _owner(home: Path) -> Account | None:
    try:
        found = home.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if found.st_uid == 0:
        return None
    try:
        name = pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        name = str(found.st_uid)
    return Account(name, found.st_uid, found.st_gid)


def _unprivileged() -> Account:
    for name in UNPRIVILEGED:
        try:
            return _look_up(name)
        except EmbeddedPostgresError:
            continue
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody: "
        "name another with `user`"
    )
