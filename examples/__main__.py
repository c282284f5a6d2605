"""List the examples, each with what it shows.

python -m examples
"""

from __future__ import annotations

import ast
from pathlib import Path


def main() -> None:
    """Print a line for each."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        says = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if f"python -m examples.{path.stem}" in says:
            print(f"{path.stem:15} {says.splitlines()[0]}")


if __name__ == "__main__":
    main()
