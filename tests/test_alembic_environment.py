"""`pgqrs alembic init` finds env.py wherever Alembic would, and changes one call of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from application import LOADED, MODELS
from shape import OURS, connected, plain, tables_in
from sqlalchemy import URL, inspect

from pgqrs import SchemaError
from pgqrs.cli.app import run as run_line
from pgqrs.migrations.environment import env_file, with_pgqrs

HAS_PLUGINS = importlib.util.find_spec("alembic.runtime.plugins") is not None
ONLINE = "context.configure(connection=connection, target_metadata=metadata)\n"
PLUGIN = 'autogenerate_plugins=["alembic.autogenerate.*", "pgqrs"]'
LONG = """
def run(connection):
    context.configure(
        connection=connection,  # ours
        target_metadata=metadata,
    )
"""
FLASK = """
def run_migrations_online():
    with connectable.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=get_metadata(),
            **conf_args
        )
"""


def run_in(folder: Path, *words: str, **variables: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PGQRS", "DATABASE", "ALEM"))}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("template", "how"),
    [("generic", ""), ("async", ""), ("pyproject", ""), ("generic", "--filters")],
)
def test_the_way_that_is_shown_is_the_whole_way(
    template: str, how: str, tmp_path: Path, empty_url: URL
) -> None:
    """From `alembic init` to tables, a check that passes, and nothing left: as a person goes it."""
    filters = bool(how) or not HAS_PLUGINS
    run_in(tmp_path, "alembic", "init", "--template", template, "migrations")
    prepare(tmp_path, empty_url)
    here = {"PGQRS_DSN": plain(empty_url)}
    init = ("pgqrs", "alembic", "init", "--format", "json", *how.split())
    shown = json.loads(run_in(tmp_path, *init, **here))
    assert not shown["written"]
    assert json.loads(run_in(tmp_path, *init, "--write", **here)) == {**shown, "written": True}
    assert not json.loads(run_in(tmp_path, *init, **here))["change"]
    if filters:
        run_in(tmp_path, "alembic", "revision", "-m", "pgqrs")
        (revision,) = (tmp_path / "migrations" / "versions").glob("*.py")
        revision.write_text(by_hand(revision.read_text(), shown["next"]))
    else:
        run_in(tmp_path, "alembic", "revision", "--autogenerate", "-m", "Add pgqrs")
    run_in(tmp_path, "alembic", "upgrade", "head")
    with connected(empty_url) as engine:
        assert tables_in(engine) == OURS
        if filters:
            run_in(tmp_path, "alembic", "revision", "--autogenerate", "-m", "orders")
            run_in(tmp_path, "alembic", "upgrade", "head")
        run_in(tmp_path, "alembic", "check")
        said = run_in(tmp_path, "pgqrs", "verify", **here)
        assert "(revision pgqrs_0002, kept by revisions of the application (alembic_version" in said
        run_in(tmp_path, "alembic", "downgrade", "base")
        assert "pgqrs" not in inspect(engine).get_schema_names()


def prepare(folder: Path, url: URL) -> None:
    """Do what a person does after `alembic init`: name the models and the database."""
    (folder / "migrations" / "models.py").write_text(f"{MODELS}\nmetadata = Base.metadata\n")
    env = folder / "migrations" / "env.py"
    named = env.read_text().replace("target_metadata = None", f"target_metadata = {LOADED}")
    env.write_text(f"from pathlib import Path\nfrom runpy import run_path\n{named}")
    ini = folder / "alembic.ini"
    written = url.render_as_string(hide_password=False).replace("%", "%%")
    ini.write_text(
        re.sub(
            "^sqlalchemy.url.*",
            lambda _: f"sqlalchemy.url = {written}",
            ini.read_text(),
            flags=re.MULTILINE,
        )
    )


def by_hand(text: str, steps: list[str]) -> str:
    """Write into a revision what `init` says."""
    _, imported, up, down, _ = (step.strip() for step in steps)
    text = text.replace("import sqlalchemy as sa\n", f"import sqlalchemy as sa\n{imported}\n")
    for line in (up, down):
        text = text.replace("    pass\n", f"    {line.partition(':')[2].strip()}\n", 1)
    return text


# The change.


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (ONLINE, ONLINE.replace(")", f", {PLUGIN})")),
        (LONG, LONG.replace("metadata,\n", f"metadata,\n        {PLUGIN},\n")),
        (
            'x.configure(connection=c, autogenerate_plugins=["a.*", "b"])',
            'x.configure(connection=c, autogenerate_plugins=["a.*", "b", "pgqrs"])',
        ),
        ("x.configure(connection=c, **more)", f"x.configure(connection=c, **more, {PLUGIN})"),
        ('"ü"; x.configure(connection="ü")', f'"ü"; x.configure(connection="ü", {PLUGIN})'),
        (
            f"context.configure(url=url)\n{ONLINE}",
            f"context.configure(url=url)\n{ONLINE.replace(')', f', {PLUGIN})')}",
        ),
    ],
)
def test_the_plugin_is_switched_on_by_one_argument(text: str, wanted: str) -> None:
    """All else stays as it was written, and a second time there is nothing to do."""
    assert with_pgqrs(text, plugins=True) == wanted
    assert with_pgqrs(wanted, plugins=True) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (ONLINE, ONLINE.replace(")", ", include_object=migrations.include_object())")),
        (
            "x.configure(connection=c, include_object=mine)",
            "x.configure(connection=c, include_object=migrations.include_object(mine))",
        ),
    ],
)
def test_a_filter_is_put_around_the_applications_own(text: str, wanted: str) -> None:
    """And imported, once."""
    for imports in ("import os\nfrom alembic import context\n", ""):
        changed = with_pgqrs(imports + text, plugins=False)
        assert changed == f"{imports}from pgqrs import migrations\n{wanted}"
        assert with_pgqrs(changed, plugins=False) == changed


def test_another_schema_is_named_in_the_change() -> None:
    """The plugin has an argument for it, the filter a parameter."""
    assert with_pgqrs(ONLINE, "jobs", plugins=True).endswith(f'{PLUGIN}, pgqrs_schema="jobs")\n')
    filtered = with_pgqrs(ONLINE, "jobs", plugins=False)
    assert 'include_object=migrations.include_object(schema="jobs"))' in filtered
    own = with_pgqrs("x.configure(connection=c, include_object=mine)", "jobs", plugins=False)
    assert 'migrations.include_object(mine, schema="jobs")' in own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x = 1\n",
            r"no call of context.configure\(\) with connection=.*: add autogenerate_plugins",
        ),
        ("x = (\n", "env.py is no Python: line 1"),
        (
            "x.configure(connection=c, autogenerate_plugins=PLUGINS)",
            'add "pgqrs" to autogenerate_plugins, which is PLUGINS',
        ),
    ],
)
def test_what_cannot_be_changed_is_told(text: str, message: str) -> None:
    """With what a person would write instead."""
    with pytest.raises(SchemaError, match=message):
        with_pgqrs(text, plugins=True)


# Where it is.


def test_the_environment_is_where_alembic_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """alembic.ini, one that is named, one of the environment, or pyproject.toml."""
    monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("one", "two", "three", "four"):
        (tmp_path / name / "versions").mkdir(parents=True)
        (tmp_path / name / "env.py").touch()
    ini = "[alembic]\nscript_location = %(here)s/{}\n"
    toml = tmp_path / "pyproject.toml"
    toml.write_text('[tool.alembic]\nscript_location = "%(here)s/four"\n')
    assert env_file(tmp_path) == tmp_path / "four" / "env.py"
    (tmp_path / "alembic.ini").write_text(ini.format("one"))
    assert env_file(tmp_path) == tmp_path / "one" / "env.py"
    (tmp_path / "other.ini").write_text(ini.format("two"))
    assert env_file(tmp_path, tmp_path / "other.ini") == tmp_path / "two" / "env.py"
    assert env_file(tmp_path, toml) == tmp_path / "four" / "env.py"
    (tmp_path / "third.ini").write_text(ini.format("three"))
    monkeypatch.setenv("ALEMBIC_CONFIG", str(tmp_path / "third.ini"))
    assert env_file(tmp_path) == tmp_path / "three" / "env.py"


@pytest.mark.parametrize("named", [None, "migrations/alembic.ini"])
def test_flask_migrate_keeps_it_in_a_folder_of_its_own(
    named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its alembic.ini stands beside env.py and names no script_location."""
    monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "alembic.ini").write_text("[alembic]\n")
    env = folder / "env.py"
    env.write_text(FLASK)
    assert env_file(tmp_path, named and tmp_path / named) == env
    changed = with_pgqrs(env.read_text(), plugins=True)
    assert f"            **conf_args,\n            {PLUGIN}\n        )\n" in changed


def test_no_environment_says_how_to_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is found, or what is found has no env.py."""
    monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)
    with pytest.raises(
        SchemaError, match="name the file with --ini, or make one with `alembic init"
    ):
        env_file(tmp_path)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    (tmp_path / "versions").mkdir()
    with pytest.raises(SchemaError, match=r"there is no .*env.py: mend script_location"):
        env_file(tmp_path)


def test_init_tells_people_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A change to look at, what was written, and the steps that remain."""
    monkeypatch.delenv("ALEMBIC_CONFIG", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "versions").mkdir()
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    env = tmp_path / "env.py"
    env.write_bytes(b"import os\r\n" + ONLINE.encode())

    def said(*words: str) -> str:
        assert run_line(["--schema", "jobs", "alembic", "init", *words]) == 0
        return capsys.readouterr().out

    shown = said("--filters")
    assert "needs this change (--write makes it):\n\n--- env.py\n" in shown
    assert "\n+from pgqrs import migrations\n" in shown
    down = 'migrations.downgrade(None, from_="pgqrs_0002", schema="jobs")'
    assert f"    in downgrade(): {down}\n  alembic upgrade head\n" in shown
    assert env.read_bytes() == b"import os\r\n" + ONLINE.encode()
    assert "is written:\n" in said("--filters", "--write")
    assert env.read_bytes().startswith(b"import os\r\nfrom pgqrs import migrations\n")
    assert "needs no change\n\nthen:\n  alembic revision" in said("--filters")


# Handing over.


@pytest.mark.matrix
def test_adopt_hands_the_tables_over_and_back(url: URL, tmp_path: Path) -> None:
    """`install` says so afterwards, until they are handed back."""
    here = {"PGQRS_DSN": plain(url)}
    said = run_in(tmp_path, "pgqrs", "alembic", "adopt", "--version-table", "public.mine", **here)
    assert "kept by your application's revisions from now on" in said
    with pytest.raises(AssertionError, match=r"application \(public.mine\), at"):
        run_in(tmp_path, "pgqrs", "install", **here)
    run_in(tmp_path, "pgqrs", "verify", **here)
    back = run_in(tmp_path, "pgqrs", "alembic", "adopt", "--undo", "--format", "json", **here)
    assert json.loads(back) == {"schema": "pgqrs", "kept_by": "install"}
    run_in(tmp_path, "pgqrs", "install", **here)
