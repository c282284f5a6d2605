"""Importing pgqrs costs what is used of it, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pgqrs

PACKAGE_ROOT = Path(pgqrs.__file__).resolve().parent.parent


def loaded(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter loads, as `-X importtime` lists them."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", statement],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
    )
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    modules = {line.rsplit("|", 1)[1].strip() for line in lines}
    return {name.partition(".")[0] for name in modules}


def test_importing_pgqrs_alone_loads_nothing_else() -> None:
    """A host may import pgqrs anywhere: every public name loads its module when first used."""
    packages = loaded("import pgqrs; dir(pgqrs); pgqrs.__version__")
    assert "pgqrs" in packages
    outside = {"sqlalchemy", "pydantic", "psycopg", "alembic", "yaml", "typer", "rich", "asyncio"}
    assert not packages & outside


@pytest.mark.matrix
@pytest.mark.parametrize("name", ["Producer", "Consumer", "Admin"])
def test_a_worker_needs_no_schema_tools_and_no_cli(name: str) -> None:
    """A process that only works on queues loads neither Alembic nor what the CLI is made of."""
    plain = loaded("import sqlalchemy, sqlalchemy.orm, sqlalchemy.dialects.postgresql, pydantic")
    packages = loaded(f"import pgqrs; pgqrs.{name}")
    assert "sqlalchemy" in packages
    assert not packages & {"alembic", "mako", "typer", "rich", "click"}
    assert not packages & {"greenlet"} - plain


@pytest.mark.parametrize("name", pgqrs.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What `__all__` lists can be had, once, and is the same the second time."""
    assert getattr(pgqrs, name) is getattr(pgqrs, name)
    assert name in dir(pgqrs)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """The error is Python's own, so that `hasattr` and `from pgqrs import` behave."""
    assert not hasattr(pgqrs, "Topic")
    with pytest.raises(ImportError, match="Topic"):
        exec("from pgqrs import Topic")
