"""The memory of a process, as Linux counts it; run alone: after the imports it is told."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak", "resident"]

STATUS = Path("/proc/self/status")


def resident() -> int:
    """Give how many bytes are in memory."""
    return _status("VmRSS")


def peak() -> int:
    """Give the most bytes that were in memory since the peak was forgotten."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Begin the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    """Import the modules named on standard input, and print the bytes in memory."""
    for name in json.load(sys.stdin):
        with contextlib.suppress(ImportError):  # made by another module, as those of six are
            importlib.import_module(name)
    print(resident())


if __name__ == "__main__":
    main()
