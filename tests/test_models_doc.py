"""docs/models.md says of every local model of the catalog how it was checked, and of no other."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from harness import models

TEXT = (Path(__file__).parent.parent / "docs/models.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([^`]+/[^`]+)` \| ([^|]+) \|$", TEXT, re.MULTILINE)


def test_every_local_model_of_the_catalog_stands_there_once():
    assert Counter(name for name, _ in ROWS) == Counter(entry.name for entry in models.listed() if entry.local)


def test_every_check_is_one_that_the_page_explains():
    assert {how for _, how in ROWS} == {"real weights", "tiny checkpoint", "not yet"}
    assert all(f"**{how}**" in TEXT for _, how in ROWS)
