"""Examine everything that queues depend on, and say what is wrong with what mends it.

Each check is a plain function of a connection. What the role may not see is said, not guessed.
"""

from __future__ import annotations

from pgqrs.doctor.check import Check, Terms
from pgqrs.doctor.examination import CHECKS, examine
from pgqrs.doctor.hearing import of_hearing

__all__ = ["CHECKS", "Check", "Terms", "examine", "of_hearing"]
