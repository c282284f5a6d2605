"""What each option costs is what the documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.options import Cost, costs, quiet_server
from pgqrs.errors import EmbeddedPostgresError

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "options.md"
ROW = re.compile(r"^\| (.+?) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


def test_the_table_of_costs_is_measured() -> None:
    """Each figure comes out again, within 3 in a hundred; buffers one at a time, within 12."""
    printed = {
        name: Cost(*(float(figure.replace(",", "")) for figure in figures))
        for name, *figures in ROW.findall(GUIDE.read_text())
    }
    server = quiet_server()
    try:
        server.start()
    except EmbeddedPostgresError as error:
        pytest.skip(str(error))
    try:
        found = dict(costs(server.dsn()))
    finally:
        server.stop()
    assert found.keys() == printed.keys()
    for name, cost in found.items():
        wal, buffers, *by_50 = printed[name]
        assert [cost.wal, *cost[2:]] == pytest.approx([wal, *by_50], rel=0.03), name
        assert cost.buffers == pytest.approx(buffers, rel=0.12), name
