"""What users install is what was tested: the wheel, built from the sdist, used outside the tree."""

from __future__ import annotations

import importlib.util
import json
import os
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from shape import plain
from sqlalchemy import URL

import pgqrs
from pgqrs import migrations
from pgqrs.errors import SchemaError
from pgqrs.migrations import scripts

ROOT = Path(__file__).resolve().parent.parent

USE = """
import json, sys
import pgqrs
from pgqrs import Admin, Config, Consumer, Producer, migrations
with Admin(Config.from_dsn(sys.argv[1])) as admin:
    printed = admin.install(dry_run=True)
    admin.install()
    findings = admin.verify()
    admin.create_queue("work")
    with Producer(admin, "work") as producer, Consumer(admin, "work") as consumer:
        producer.enqueue({"a": 1})
        payload = consumer.archive(consumer.dequeue()).payload
    dropped = admin.uninstall()
print(json.dumps({
    "file": pgqrs.__file__, "version": pgqrs.__version__, "printed": printed,
    "scripts": str(migrations.script_location()), "findings": len(findings),
    "payload": payload, "dropped": dropped,
}))
"""


def run(*command: str | Path, cwd: Path | str = "/") -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PGQRS_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of this tree, and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    here = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", *here, "--outdir", folder, ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def elsewhere(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin of an environment with the wheel in it; its dependencies are those of this one."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", built[1])
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", query).strip())
    # A path file's paths are taken as they are: what is editable in them is not.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()), "utf-8")
    return home / "bin"


def test_the_wheel_has_what_it_needs_and_nothing_else(built: tuple[Path, Path]) -> None:
    """The revisions travel inside the package, with the marker that says it is typed."""
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    revisions = {f"pgqrs/_alembic/versions/{path.name}" for path in revision_files()}
    assert revisions
    wanted = {"pgqrs/py.typed", "pgqrs/_alembic/env.py", "pgqrs/_alembic/script.py.mako"}
    assert wanted | revisions <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert {name.partition("/")[0] for name in names} == {
        "pgqrs",
        f"pgqrs-{pgqrs.__version__}.dist-info",
    }


def test_the_sdist_can_be_built_and_tested(built: tuple[Path, Path]) -> None:
    """It holds the revisions where a checkout has them, the tests and the licenses."""
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"alembic.ini", "alembic/env.py", "tests/conftest.py", "LICENSE", "LICENSE-MIT"}
    assert wanted | {f"alembic/versions/{path.name}" for path in revision_files()} <= names
    assert not [name for name in names if "__pycache__" in name]


def revision_files() -> list[Path]:
    return list((ROOT / "alembic" / "versions").glob("*.py"))


def test_the_wheel_works_where_there_is_no_checkout(elsewhere: Path, empty_url: URL) -> None:
    """From an empty database to a finished message and away again, with scripts of its own.

    They make the schema that the checkout's make.
    """
    said: dict[str, Any] = json.loads(run(elsewhere / "python", "-c", USE, plain(empty_url)))
    package = Path(said["file"]).parent
    assert package.is_relative_to(elsewhere.parent)
    assert Path(said["scripts"]) == package / "_alembic"
    assert said["version"] == pgqrs.__version__
    assert said["findings"] == 0
    assert said["payload"] == {"a": 1}
    assert "DROP SCHEMA pgqrs" in said["dropped"]
    alembic = run(sys.executable, "-m", "alembic", "upgrade", "head", "--sql", cwd=ROOT)
    assert said["printed"] == alembic


def test_the_revisions_are_a_version_location_by_name(elsewhere: Path, tmp_path: Path) -> None:
    """An application names them as what the package carries, with a separator that is no colon."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "alembic.ini").write_text(
        "[alembic]\nscript_location = %(here)s\npath_separator = newline\n"
        "version_locations =\n    %(here)s/versions\n    pgqrs:_alembic/versions\n"
    )
    heads = run(elsewhere / "python", "-m", "alembic", "heads", cwd=tmp_path)
    assert heads == f"{migrations.head()} (pgqrs) (head)\n"


def test_alembic_knows_the_plugin(elsewhere: Path) -> None:
    """It is told by the wheel's entry point, to any Alembic that has plugins."""
    query = "from alembic.runtime import plugins; print('pgqrs' in plugins._all_plugins)"
    if importlib.util.find_spec("alembic.runtime.plugins"):
        assert run(elsewhere / "python", "-c", query) == "True\n"


def test_the_command_is_installed(elsewhere: Path) -> None:
    """`pgqrs` is on the path of the environment, and knows its version."""
    assert pgqrs.__version__ in run(elsewhere / "pgqrs", "--version")


def test_a_checkout_uses_its_own_revisions() -> None:
    """An editable install has no copy of the scripts that could be older than the tree."""
    assert not (ROOT / "pgqrs" / "_alembic").exists()
    assert migrations.script_location() == ROOT / "alembic"


def test_an_installation_without_scripts_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken package is told as that, not as a missing file."""
    missing = tmp_path / "pgqrs" / "migrations" / "scripts.py"
    monkeypatch.setattr(scripts, "__file__", str(missing))
    with pytest.raises(SchemaError, match="reinstall pgqrs"):
        migrations.script_location()
