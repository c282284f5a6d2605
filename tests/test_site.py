"""What the site generates from the source: commands, settings and layers, each of them whole."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from pgqrs.cli.app import app
from pgqrs.config import Config
from pgqrs.validation import ValidationConfig

ROOT = Path(__file__).parent.parent
HOOKS = ROOT / "docs" / "hooks"
PLAIN = {"host", "port", "username", "database"}
"""Settings that say by their names what they are."""


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The hooks of the site, imported as MkDocs does it."""
    names = {path.stem for path in HOOKS.glob("*.py")}
    assert not names & set(sys.modules)
    monkeypatch.syspath_prepend(HOOKS)
    import pages

    yield pages
    for name in names:
        sys.modules.pop(name, None)


def page(pages: ModuleType, name: str) -> str:
    text: str = pages.generated((ROOT / "docs" / name).read_text(encoding="utf-8"))
    assert "<!-- generated" not in text
    return text


def commands(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, node
    for name, inner in getattr(node, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def test_the_reference_has_every_command_with_all_it_takes(pages: ModuleType) -> None:
    """Each command has a heading, and a row for each of its arguments and options."""
    text = page(pages, "reference/cli.md")
    parts = dict(re.findall(r"^##+ (pgqrs.*)\n((?s:.*?))(?=^##|\Z)", text, re.MULTILINE))
    tree = dict(commands(typer.main.get_command(app), "pgqrs"))
    assert list(parts) == list(tree)
    for path, node in tree.items():
        if path == "pgqrs" or not hasattr(node, "commands"):
            rows = re.findall(r"^\| `(.+?)` \| \S", parts[path], re.MULTILINE)
            taken = [each for each in node.params if each.name != "help"]
            assert len(rows) == len(taken)
            for option in (name for each in taken for name in each.opts if name[0] == "-"):
                assert any(re.search(rf"{option}\b", row) for row in rows), option
            assert f"\n{path} " in parts[path]


@pytest.mark.parametrize("model", [Config, ValidationConfig])
def test_the_guide_has_every_setting_of_the_model(pages: ModuleType, model: Any) -> None:
    """Each setting is in the table once, in the model's order, with its default and what it is."""
    text = page(pages, "guides/configuration.md")
    table = text[text.index("## Settings") :]
    if model is ValidationConfig:
        table = table[table.index("## Rules of validation") :]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\| ?(.*?) ?\|$", table, re.MULTILINE)
    fields = model.model_fields
    assert [name for name, *_ in rows][: len(fields)] == [
        field.alias or name for name, field in fields.items()
    ]
    for name, default, says in rows[: len(fields)]:
        assert says or name in PLAIN, f"{name} has no docstring"
        field = next(f for n, f in fields.items() if name in (n, f.alias))
        assert default == shown(field.default)


def shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float | str):
        return str(default)
    return default.get_secret_value() if hasattr(default, "get_secret_value") else ""


def test_the_architecture_is_that_of_the_source(pages: ModuleType) -> None:
    """The page for contributors has each module of the package once, in the order of the layers."""
    text = page(pages, "contributing/architecture.md")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", text, re.MULTILINE)
    package = ROOT / "pgqrs"
    there = {path.stem for path in package.glob("*.py")} - {"__init__", "_version"}
    there |= {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(name for _, name, _ in rows) == sorted(there)
    assert [int(number) for number, *_ in rows] == sorted(int(number) for number, *_ in rows)


def test_contributing_lists_the_layers_in_their_order(pages: ModuleType) -> None:
    """CONTRIBUTING's list of the package goes down as the imports do."""
    layers = pages.layer_table.layers()
    number = {name: index for index, layer in enumerate(layers) for name in layer}
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^    (\w+)(?:/|\.py) ", text, re.MULTILINE)
    order = [number[name] for name in listed if name != "__init__"]
    assert order == sorted(order)


def test_a_page_opens_with_a_sentence_for_the_list(pages: ModuleType) -> None:
    """`llms.txt` has a line for each page of the navigation, with what it is about."""
    pages._sections["All"] = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = str(path.relative_to(ROOT / "docs"))
        markdown = page(pages, name)
        pages._sections["All"].append(name)
        pages._pages[name] = (name, re.sub(r"<!--.*?-->\n*", "", markdown, flags=re.DOTALL))
    lines = pages.llms_txt("pgqrs", "A queue.").splitlines()
    assert lines[:5] == ["# pgqrs", "", "> A queue.", "", "## All"]
    for line in lines[6:]:
        assert re.fullmatch(r"- \[.+\]\([\w/-]+\.md\): \S.*\.", line), line


def test_the_pictures_show_the_commands() -> None:
    """The pictures of `demo` and `top` are of the commands as they are, by their headings."""
    for name, source in (("demo", "demo/display.py"), ("top", "top/picture.py")):
        drawn = (ROOT / "docs" / "pictures" / f"{name}.svg").read_text(encoding="utf-8")
        shown = "".join(re.findall(r"<text [^>]*>([^<]*)</text>", drawn)).replace("&#160;", " ")
        code = (ROOT / "pgqrs" / "cli" / source).read_text(encoding="utf-8")
        headings = re.findall(r'for \w+ in \(((?:"[a-z/]+",? ?)+)', code)
        words = {word for found in headings for word in re.findall(r'"([a-z/]+)"', found)}
        assert len(words) > 4
        assert not {word for word in words if word not in shown}


def test_files_named_for_contributors_are_there() -> None:
    """What the pages for contributors say of files is true: each is where it is said to be."""
    for path in (ROOT / "docs" / "contributing").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(
            r"`((?:pgqrs|tests|alembic|benchmarks|docs|examples)/[\w./]+)`", text
        ):
            assert (ROOT / name).exists(), name
    table = (ROOT / "docs" / "contributing" / "tests.md").read_text(encoding="utf-8")
    for name in re.findall(r"`(test_[\w*]+\.py)`", table):
        assert list((ROOT / "tests").glob(name)), name


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_outside_of_the_site_lead_somewhere(name: str) -> None:
    """What pages of the checkout's root link to is there, headings too; MkDocs sees the rest."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, heading = target.partition("#")
        assert (ROOT / (path or name)).exists(), target
        if heading:
            titles = re.findall(
                r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
            )
            assert heading in {re.sub(r"[^a-z0-9]+", "-", title.lower()) for title in titles}
