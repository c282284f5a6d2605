"""Draw the pictures of `pgqrs demo` and `pgqrs top`: the programs run, and their screens are kept.

Both get a terminal and a PostgreSQL of their own. `make pictures` writes the SVG files beside this
one; what is in them is what was on the screen, at a moment worth seeing.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

import pgqrs
from pgqrs.embedded import EmbeddedPostgres

HERE = Path(__file__).parent
HANDLER = "import time\n\ndef handle(message):\n    time.sleep(message.payload['seconds'])\n"


def main() -> None:
    """Draw both."""
    draw("demo", ["demo"], 20, lambda text: "killed" in text and is_halfway(text), os.environ)
    with EmbeddedPostgres(durable=False) as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "shop.py").write_text(HANDLER, encoding="utf-8")
        here = os.environ | {"PGQRS_DSN": server.dsn(), "PYTHONPATH": folder}
        fill(server.dsn())
        queues = ["--queue", "emails", "--queue", "reports"]
        worker = subprocess.Popen(
            [*PROGRAM, "worker", "run", "shop:handle", *queues, "--concurrency", "6"], env=here
        )
        try:
            looks = time.monotonic() + 14
            words = ["top", "--interval", "1"]
            draw("top", words, 14, lambda _: time.monotonic() > looks, here)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)


PROGRAM = [sys.executable, "-m", "pgqrs"]


def is_halfway(text: str) -> bool:
    """Say whether two thirds of the files of the demo are archived."""
    found = re.search(r"([\d,]+) of ([\d,]+)", text)
    done, total = (int(each.replace(",", "")) for each in found.groups()) if found else (0, 1)
    return done > total * 2 / 3


def fill(dsn: str) -> None:
    """Make queues that are as queues are: a busy one, a quiet one, one that is paused."""
    with pgqrs.Admin(dsn) as admin:
        admin.install()
        for name, count, seconds in (("emails", 900, 0.1), ("reports", 25, 2), ("exports", 12, 1)):
            admin.create_queue(name)
            with pgqrs.Producer(admin, name) as producer:
                producer.batch_enqueue([{"seconds": seconds}] * count)
                producer.batch_enqueue([{"seconds": seconds}] * 8, delay=600)
        admin.pause_queue("exports")


def draw(
    name: str, words: list[str], lines: int, done: Callable[[str], bool], environment: object
) -> None:
    """Run a command until what it shows will do, and write its screen as SVG."""
    columns = 96
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [*PROGRAM, *words],
        env={**dict(environment), "TERM": "xterm-256color"},  # type: ignore[call-overload]
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    while not done("\n".join(screen.display)):
        if select.select([leader], [], [], 1)[0]:
            stream.feed(os.read(leader, 65536))
    (HERE / f"{name}.svg").write_text(svg(screen, " ".join(["pgqrs", *words])), encoding="utf-8")
    process.send_signal(signal.SIGTERM)
    while select.select([leader], [], [], 30)[0]:
        try:
            os.read(leader, 65536)
        except OSError:
            break
    process.wait(60)
    os.close(leader)


def svg(screen: pyte.Screen, title: str) -> str:
    """Give a screen as SVG, with the fonts of whoever looks at it."""
    console = Console(record=True, width=screen.columns, file=io.StringIO())
    last = max(number for number, line in enumerate(screen.display) if line.strip())
    for row in range(last + 2):
        line = Text()
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            line.append(cell.data, style_of(cell))
        console.print(line, soft_wrap=True)
    drawn = console.export_svg(title=title, theme=MONOKAI, unique_id=f"pgqrs-{title[6:9].strip()}")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    return re.sub(r"#([0-9a-fA-F]{6})\b", in_numbers, drawn)


def in_numbers(found: re.Match[str]) -> str:
    """Give a colour as three numbers."""
    return f"rgb({', '.join(str(each) for each in bytes.fromhex(found[1]))})"


def style_of(cell: pyte.screens.Char) -> str:
    """Give the style of a character in the words of rich."""
    known = {"brown": "yellow"}
    words = [word for word in ("bold", "reverse", "underline") if getattr(cell, word, False)]
    words += ["underline"] if getattr(cell, "underscore", False) else []
    if cell.fg != "default":
        words.append(known.get(cell.fg, cell.fg) if cell.fg.isalpha() else f"#{cell.fg}")
    return " ".join(words)


if __name__ == "__main__":
    main()
