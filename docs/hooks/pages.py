"""What MkDocs is told when it builds the site: pages get what is generated, and machines get text.

A comment such as `<!-- generated: settings -->` in a page becomes what is generated. The site also
has each page as Markdown, and `llms.txt` lists them for programs that read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import command_reference
import figure_table
import layer_table
import setting_tables

ROOT: Final = Path(__file__).parent.parent.parent


def _moved(name: str) -> Callable[[], str]:
    """Give what puts a file of the checkout's root into the folder `docs/contributing`."""

    def text() -> str:
        whole = (ROOT / name).read_text(encoding="utf-8")
        links = {"](docs/": "](../", "](CHANGELOG.md)": "](changes.md)"}
        for here, there in links.items():
            whole = whole.replace(here, there)
        return whole

    return text


GENERATED: Final[dict[str, Callable[[], str]]] = {
    "changes": _moved("CHANGELOG.md"),
    "commands": command_reference.text,
    "contributing": _moved("CONTRIBUTING.md"),
    "figures": figure_table.text,
    "layers": layer_table.text,
    "rules": setting_tables.rules,
    "settings": setting_tables.settings,
}
READABLE: Final = (
    '%%{init: {"flowchart": {"useMaxWidth": false}, "state": {"useMaxWidth": false},'
    ' "sequence": {"useMaxWidth": false, "mirrorActors": false, "actorMargin": 24}}}%%'
)
"""Diagrams keep the size of their text, and scroll where there is no room."""
_pages: dict[str, tuple[str, str]] = {}
"""The title and the Markdown of each page, by the path of its source."""
_sections: dict[str, list[str]] = {}
"""The pages of each section, in the order of the navigation."""


def generated(markdown: str) -> str:
    """Put what is generated in the place of the comments that ask for it."""
    return re.sub(r"<!-- generated: (\w+) -->", lambda found: GENERATED[found[1]](), markdown)


def on_nav(nav: Any, **_: Any) -> None:
    """Remember the order of the pages."""
    _sections.clear()
    for item in nav.items:
        inner = getattr(item, "children", None)
        title = item.title if inner else "Pages"
        found = [page.file.src_uri for page in (_pages_of(item) if inner else [item])]
        _sections.setdefault(title, []).extend(found)


def _pages_of(section: Any) -> Iterator[Any]:
    for item in section.children:
        yield from _pages_of(item) if getattr(item, "children", None) else [item]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Complete a page, and keep it."""
    whole = generated(markdown)
    heading = re.search(r"^# (.+)$", whole, re.MULTILINE)
    visible = re.sub(r"<!--.*?-->\n*", "", whole, flags=re.DOTALL)
    _pages[page.file.src_uri] = (heading[1] if heading else page.title, visible)
    return re.sub(r"^( *)```mermaid$", rf"\g<0>\n\1{READABLE}", visible, flags=re.MULTILINE)


def on_post_build(config: Any, **_: Any) -> None:
    """Write the pages as Markdown, and the list of them."""
    site = Path(config.site_dir)
    for name, (_title, markdown) in _pages.items():
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown, encoding="utf-8")
    listed = llms_txt(config.site_name, config.site_description)
    (site / "llms.txt").write_text(listed, encoding="utf-8")


def llms_txt(name: str, description: str) -> str:
    """List all pages with their first sentences, as llmstxt.org asks for."""
    parts = [f"# {name}\n\n> {description}"]
    for section, names in _sections.items():
        lines = [f"- [{_pages[each][0]}]({each}): {_opening(_pages[each][1])}" for each in names]
        parts.append(f"## {section}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _opening(markdown: str) -> str:
    """Give the first sentence of a page that is prose."""
    prose_only = re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    for block in re.split(r"\n{2,}", prose_only):
        if re.match(r"[A-Za-z`*\[]", block) and not block.startswith("[!"):
            prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
            return re.split(r"(?<=[.:])\s", prose)[0].rstrip(":.") + "."
    return "What its source says."
