"""docs/performance.md quotes tables: each line of them, and each sentence about a machine, stands in a benchmark's result."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_quoted_line_is_of_a_result() -> None:
    kept = {line for path in (ROOT / "benchmarks" / "results").glob("*.md") for line in path.read_text(encoding="utf-8").splitlines()}
    said = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").splitlines()
    quoted = [line for line in said if line.startswith(("|", "Measured on"))]
    assert len(quoted) > 60
    assert [line for line in quoted if line not in kept] == []
