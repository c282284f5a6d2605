"""Values that are made quickly are what the constructor makes."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from pgqrs.quick import quick


@dataclass(frozen=True, slots=True)
class Point:
    """One of everything that a value of pgqrs has."""

    x: int
    y: int = 2
    kept: int | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def total(self) -> int:
        return self.x + self.y


point_of = quick(Point)


@pytest.mark.parametrize("values", [(1,), (1, 5)])
def test_it_is_what_the_constructor_makes(values: tuple[int, ...]) -> None:
    """In class, fields, text, equality and hash, and so are its copies."""
    made, plain = point_of(*values), Point(*values)
    assert type(made) is Point
    assert (made, hash(made), repr(made)) == (plain, hash(plain), repr(plain))
    assert [getattr(made, each.name) for each in fields(made)] == [*[*values, 2][:2], None]
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == made
    assert replace(made, x=7) == Point(7, made.y)
    assert made.total == plain.total


def test_it_is_frozen() -> None:
    """Nothing can be set, as on any other."""
    made = point_of(1)
    with pytest.raises(FrozenInstanceError):
        made.x = 2  # type: ignore[misc]


def test_what_is_missing_is_missed() -> None:
    """Positional arguments are checked as by the constructor."""
    with pytest.raises(TypeError, match="missing"):
        point_of()
    with pytest.raises(TypeError, match="given"):
        point_of(1, 2, 3)
