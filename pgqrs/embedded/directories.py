"""The directories of a server: made, locked and removed, without touching those of the user.

A server has a home, `<data directory>/<major version>`, with `data`, `server.log` and the lock;
and a directory for its socket, always temporary, because a socket's path must be short.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pgqrs.embedded.account import Account
from pgqrs.embedded.watchdog import remove_tree
from pgqrs.errors import EmbeddedPostgresError

MEMORY = Path("/dev/shm")  # noqa: S108  (used through mkdtemp)
MEMORY_NEEDED = 512 * 1024**2
SOCKET_PATH_LIMIT = 103
"""Bytes of a socket's path: 104 with its end on macOS, 108 on Linux."""


@dataclass(frozen=True, slots=True)
class Directories:
    """Where one server lives; `temporary` are to be removed when it ends."""

    home: Path
    socket: Path
    temporary: tuple[Path, ...]

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    def remove(self) -> None:
        for directory in self.temporary:
            remove_tree(str(directory))


def make_directories(
    home: Path | None, version: int, account: Account | None, *, in_memory: bool
) -> Directories:
    """Make a server's directories; a home of None is a temporary one, in memory if there is room.

    Raises EmbeddedPostgresError, and leaves nothing behind, where that is impossible.
    """
    temporary: list[Path] = []
    try:
        socket = _make_temporary("pgqrs-", _socket_bases(), account)
        temporary.append(socket)
        if home is None:
            root = _make_temporary("pgqrs-data-", _data_bases(in_memory=in_memory), account)
            temporary.append(root)
            home = root / str(version)
        _make_home(home, account)
    except BaseException as error:
        for directory in temporary:
            shutil.rmtree(directory, ignore_errors=True)
        if isinstance(error, OSError):
            raise EmbeddedPostgresError(f"the server has no place for its data: {error}") from error
        raise
    return Directories(home, socket, tuple(temporary))


def _data_bases(*, in_memory: bool) -> Iterator[Path]:
    if in_memory and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        yield MEMORY
    yield Path(tempfile.gettempdir())
    yield from (Path("/tmp"), Path("/var/tmp"))  # noqa: S108


def _socket_bases() -> Iterator[Path]:
    longest = SOCKET_PATH_LIMIT - len("/pgqrs-12345678/.s.PGSQL.65535")
    bases = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108
    return (base for base in bases if len(os.fsencode(base)) <= longest)


def _make_temporary(prefix: str, bases: Iterable[Path], account: Account | None) -> Path:
    for base in bases:
        if os.access(base, os.W_OK | os.X_OK) and (account is None or account.can_enter(base)):
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
            _give(made, account)
            return made
    raise FileNotFoundError("no temporary directory that its user can reach; set TMPDIR to one")


def _make_home(home: Path, account: Account | None) -> None:
    missing = [path for path in (home, *home.parents) if not path.exists()]
    above = missing[-1].parent if missing else home
    if account is not None and not account.can_enter(above):
        raise EmbeddedPostgresError(
            f"the server runs as user {account.name!r}, which cannot enter {above}: "
            "choose a data directory that it can reach"
        )
    for path in reversed(missing[1:]):
        path.mkdir(exist_ok=True)
        if account is not None:
            # Not root's umask but this decides whether the server's user gets to its home.
            path.chmod(0o755)
    if missing:
        home.mkdir(mode=0o700, exist_ok=True)
        _give(home, account)


def _give(directory: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(directory, account.uid, account.gid, follow_symlinks=False)


def lock_home(home: Path, *, seconds: float = 1) -> int:
    """Lock a home for one server; the descriptor holds the lock for all processes that have it.

    Another server gets `seconds` to go, longer when it is already stopping: one whose Python
    process was killed just now takes a moment. Raises EmbeddedPostgresError when it stays.
    """
    try:
        descriptor = os.open(home, os.O_RDONLY)
    except OSError as error:
        raise EmbeddedPostgresError(f"the data directory cannot be used: {error}") from error
    started = time.monotonic()
    while not _try_lock(descriptor):
        stopping = _lock_file_lines(home)[7:8] == ["stopping"]
        if time.monotonic() - started > (30 if stopping else seconds):
            os.close(descriptor)
            raise _in_use(home)
        time.sleep(0.02)
    if _is_server(home):
        os.close(descriptor)
        raise _in_use(home)
    _forget_recycled_pid(home)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems have no locks: PostgreSQL's own check must do.
        return True
    return True


def _in_use(home: Path) -> EmbeddedPostgresError:
    pid = server_pid(home)
    who = f"the server with pid {pid}" if pid else "another server"
    return EmbeddedPostgresError(
        f"the data directory {home} is in use by {who}: stop that one, or choose another directory"
    )


def server_pid(home: Path) -> int | None:
    """Give the pid that the server in a home left in its lock file, dead or alive."""
    lines = _lock_file_lines(home)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lock_file_lines(home: Path) -> list[str]:
    try:
        lines = (home / "data" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines]


def _is_server(home: Path) -> bool:
    """Whether the pid in the lock file is that of a server in this home, started by whomever."""
    pid = server_pid(home)
    if pid is None:
        return False
    if sys.platform == "linux":
        try:
            # Every process of a server works in its data directory.
            return Path(f"/proc/{pid}/cwd").samefile(home / "data")
        except FileNotFoundError:
            return False
        except PermissionError:
            return True
    asked = ["ps", "-o", "command=", "-p", str(pid)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
    return "postgres" in answer.stdout


def _forget_recycled_pid(home: Path) -> None:
    """Remove a lock file whose pid is now another program's, for PostgreSQL would not start."""
    pid = server_pid(home)
    if pid is None:
        return
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return
    (home / "data" / "postmaster.pid").unlink(missing_ok=True)
