"""Every Python block of README and docs runs as printed, and so does every `pgqrs` command.

A page is run once for each of its tabs, from top to bottom, against a database of its own: only the
DSN is another. Blocks outside of tabs belong to every run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine
from sybil import Document, Example, Lexeme
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from pgqrs import Admin, Consumer, Producer

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
PRINTED = "postgresql://user:pass@localhost/mydb"
TAB = re.compile(r'^=== "(.+)"$', re.MULTILINE)
SHOWN = re.compile(r'--8<-- "examples/\w+\.py"\n')
"""An example that a page shows: tests/test_examples.py runs it."""
RUN_BY_SHELL = re.compile(r"^(export PGQRS_\w+=.*|pgqrs .*|)$")


def parsed(path: Path) -> Document:
    run_python = CodeBlockParser("python", in_python)
    run_shell = CodeBlockParser("bash", in_a_shell)
    return Document.parse(str(path), run_python, run_shell)


def in_python(example: Example) -> None:
    """Run a Python block, unless it is an example."""
    if not SHOWN.fullmatch(example.parsed):
        PythonEvaluator()(example)


def tab_of(example: Example) -> str | None:
    """The tab an indented block stands in, or None."""
    if not example.document.text[example.start :].startswith(" "):
        return None
    tabs = TAB.findall(example.document.text[: example.start])
    return tabs[-1] if tabs else None


def in_a_shell(example: Example) -> None:
    """Run a block of `pgqrs` commands in a shell that stops at the first error.

    What a block exports, later blocks of its page have too, as in one terminal.
    """
    for line in example.parsed.splitlines():
        assert RUN_BY_SHELL.match(line), f"a bash block runs pgqrs only, mark others sh: {line}"
    exported = example.namespace.setdefault("exported", {})
    exported.update(re.findall(r'^export (\w+)="(.*)"$', example.parsed, re.MULTILINE))
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.parsed],
        env=os.environ | exported | {"PATH": programs},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, f"{example.parsed}\n{result.stdout}{result.stderr}"


def runs() -> Iterator[Any]:
    for path in PAGES:
        examples = list(parsed(path).examples())
        tabs = sorted({tab for example in examples if (tab := tab_of(example))})
        for tab in tabs or [None] if examples else []:
            name = str(path.relative_to(ROOT))
            yield pytest.param(path, tab, id=f"{name}-{tab}" if tab else name)


@pytest.fixture
def database(request: pytest.FixtureRequest, path: Path) -> URL:
    """An empty database where the page installs the tables itself, else one that has them."""
    installs = re.search(r"\.install\(\)|^pgqrs install$", path.read_text(), re.MULTILINE)
    fixture: URL = request.getfixturevalue("empty_url" if installs else "url")
    return fixture


def let_go(namespace: dict[str, Any]) -> None:
    """Close what a page left open, as the end of a program would."""
    for value in namespace.values():
        if isinstance(value, Admin | Producer | Consumer):
            value.close()
    for value in namespace.values():
        if isinstance(value, Engine):
            value.dispose()


@pytest.mark.timeout(300)  # a page of commands is many processes
@pytest.mark.parametrize(("path", "tab"), list(runs()))
def test_blocks_run_as_printed(
    path: Path, tab: str | None, database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks of a page run in their order, but for the DSN."""
    monkeypatch.chdir(tmp_path)
    dsn = database.set(drivername="postgresql").render_as_string(hide_password=False)
    document = parsed(path)
    try:
        for example in document.examples():
            if tab_of(example) in (None, tab):
                code = example.parsed
                example.parsed = Lexeme(code.replace(PRINTED, dsn), code.offset, code.line_offset)
                example.evaluate()
    finally:
        let_go(document.namespace)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_say_what_they_are(path: Path) -> None:
    """A block names a language that is run, or one that is known not to be."""
    text = path.read_text()
    fences = re.findall(r"^ *```(.*)$", text, re.MULTILINE)
    assert {*fences[::2]} <= {
        "python",
        "bash",
        "sh",
        "text",
        "yaml",
        "sql",
        "mermaid",
        "toml",
        "json",
    }
