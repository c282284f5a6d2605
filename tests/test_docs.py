"""Every Python block of README and docs runs as printed, and so does every line for a shell.

A page is run once for each of its tabs, from top to bottom, against a database of its own: only the
DSN is another, and a port any that is free. Blocks outside of tabs belong to every run. What is
not run is listed in PEERS and, of a shell, in `shell.NOT_RUN`.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tempfile
import tomllib
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import says_what_the_command_takes, type_in
from sqlalchemy import URL, Engine
from sybil import Document, Example, Lexeme
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from pgqrs import Admin, Consumer, Producer

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
PRINTED = "postgresql://user:pass@localhost/mydb"
TAB = re.compile(r'^=== "(.+)"$', re.MULTILINE)
SHOWN = re.compile(r'--8<-- "examples/\w+\.py"\n')
"""An example that a page shows: tests/test_examples.py runs it."""
PORT = "127.0.0.1:9187"
PEERS = {"Celery", "procrastinate", "pgmq"}
"""Tabs with the code of others, which is not installed here: it is only compiled."""


def parsed(path: Path) -> Document:
    run_python = CodeBlockParser("python", in_python)
    run_shell = [CodeBlockParser(language, in_a_shell) for language in ("bash", "sh")]
    return Document.parse(str(path), run_python, *run_shell)


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
    """Type a block into the terminal of its page."""
    type_in(example.parsed, example.namespace["terminal"])


def runs() -> Iterator[Any]:
    for path in PAGES:
        examples = list(parsed(path).examples())
        tabs = sorted({tab for example in examples if (tab := tab_of(example))} - PEERS)
        for tab in tabs or [None] if examples else []:
            name = str(path.relative_to(ROOT))
            yield pytest.param(path, tab, id=f"{name}-{tab}" if tab else name)


@pytest.fixture
def database(request: pytest.FixtureRequest, path: Path) -> URL:
    """An empty database where the page installs the tables itself, else one that has them."""
    installs = re.search(r"\.install\(\)|^pgqrs install$", path.read_text(), re.MULTILINE)
    fixture: URL = request.getfixturevalue("empty_url" if installs else "url")
    return fixture


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder to work in, which the server's user can enter where root runs the tests."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        monkeypatch.chdir(made)
        yield
        monkeypatch.undo()


def let_go(namespace: dict[str, Any]) -> None:
    """Close what a page left open, as the end of a program would."""
    for value in namespace.values():
        if isinstance(value, Admin | Producer | Consumer):
            value.close()
    for value in namespace.values():
        if isinstance(value, Engine):
            value.dispose()


@pytest.mark.timeout(300)  # a page of commands has some that are processes
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("path", "tab"), list(runs()))
def test_blocks_run_as_printed(path: Path, tab: str | None, database: URL) -> None:
    """All blocks of a page run in their order, but for the DSN."""
    dsn = database.set(drivername="postgresql").render_as_string(hide_password=False)
    document = parsed(path)
    document.namespace["terminal"] = {"PGQRS_DSN": dsn}
    try:
        for example in document.examples():
            if tab_of(example) in (None, tab):
                code = example.parsed
                here = code.replace(PRINTED, dsn).replace(PORT, "127.0.0.1:0")
                example.parsed = Lexeme(here, code.offset, code.line_offset)
                example.evaluate()
            elif tab_of(example) in PEERS:
                compile(example.parsed, str(path), "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
    finally:
        let_go(document.namespace)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_say_what_they_are(path: Path) -> None:
    """A block names a language that is run, or one that is known not to be."""
    fences = re.findall(r"^ *```(.*)$", path.read_text(), re.MULTILINE)
    assert {*fences[::2]} <= {"python", "bash", "sh", "text", "sql", "mermaid", *FORMATS}


def ini(text: str) -> Iterator[list[str]]:
    """A unit of systemd, or a file of PgBouncer; gives what is executed."""
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(text)
    for section in parsed.sections():
        for key, value in parsed[section].items():
            if key.startswith("Exec"):
                yield shlex.split(value)


def dockerfile(text: str) -> Iterator[list[str]]:
    for line in text.strip().splitlines():
        word, _, rest = line.partition(" ")
        assert word in {"FROM", "RUN", "WORKDIR", "COPY", "USER", "STOPSIGNAL", "CMD"}, line
        if word == "CMD":
            yield json.loads(rest)


def lists_in(value: Any) -> Iterator[list[Any]]:
    """The lists anywhere in a document; a list of words may be a command."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, list):
        yield value
    for each in inner:
        yield from lists_in(each)


FORMATS: dict[str, Callable[[str], Iterator[list[Any]]]] = {
    "yaml": lambda text: lists_in(list(yaml.safe_load_all(text))),
    "json": lambda text: lists_in(json.loads(text)),
    "toml": lambda text: lists_in(tomllib.loads(text)),
    "ini": ini,
    "dockerfile": dockerfile,
}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_other_programs_read_is_well_formed(path: Path) -> None:
    """Files for others can be parsed; commands of pgqrs in them are there, and take that."""
    blocks = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", path.read_text(), re.MULTILINE | re.DOTALL)
    for indent, language, text in blocks:
        if language in FORMATS:
            for words in FORMATS[language](re.sub(f"^{indent}", "", text, flags=re.MULTILINE)):
                if words and str(words[0]).rpartition("/")[2] == "pgqrs":
                    says_what_the_command_takes(shlex.join(words))
