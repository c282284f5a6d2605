"""Arrays come to the server as they were given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, ColumnElement, Engine, select

from pgqrs.statements.arrays import doubles, numbers, texts

pytestmark = pytest.mark.matrix

MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
STORABLE = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


def back(engine: Engine, array: ColumnElement[Any], value: list[Any]) -> Any:
    """Send an array and give what the server has then."""
    with engine.connect() as connection:
        return connection.scalar(select(array), {"array": value})


@MANY
@given(value=st.lists(st.none() | st.text(STORABLE)))
@example(value=["", "NULL", "null", None, '"', "\\", '\\"', "{", "},{", " a ", "\n", "ü", ","])
def test_texts(engine: Engine, value: list[str | None]) -> None:
    """Whatever is in them."""
    assert back(engine, texts("array"), value) == value


@MANY
@given(value=st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_numbers(engine: Engine, value: list[int]) -> None:
    """Of 64 bits."""
    assert back(engine, numbers("array", BigInteger), value) == value


def test_doubles(engine: Engine) -> None:
    """And null among them."""
    assert back(engine, doubles("array"), [0.1, None, 1e300]) == [0.1, None, 1e300]
