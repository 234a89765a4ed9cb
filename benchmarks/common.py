"""Where the benchmarks find what does not belong to the repository, and how they print."""

from __future__ import annotations

import os
import sys
from pathlib import Path

THREADS = 2
"""For both sides of a comparison of embedding."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def scifact() -> Path:
    """The SciFact collection in BEIR layout: $SCIFACT, else shared/data/scifact beside the repository."""
    folder = Path(os.environ.get("SCIFACT") or SHARED / "data" / "scifact")
    if not (folder / "corpus.jsonl").is_file():
        sys.exit(f"{folder}: no SciFact here; set SCIFACT to a folder that holds it in BEIR layout")
    return folder


def use_zoo() -> None:
    """Point the hub's cache at $ZOO/hf, laid out by build_zoo.py, before anything reads the variables."""
    zoo = Path(os.environ.get("ZOO") or "")
    if not (zoo / "hf" / "hub").is_dir():
        sys.exit("set ZOO to a folder that shared/zoo/build_zoo.py has filled: python ../shared/zoo/build_zoo.py FOLDER")
    os.environ["HF_HOME"] = str(zoo / "hf")
    os.environ["HF_HUB_OFFLINE"] = "1"


def machine() -> str:
    """The processor, its cores, and what it has for products in bfloat16."""
    from harness.environment import environment
    from providers import _compute

    about = environment()
    units = ", ".join(sorted(_compute.BFLOAT16 & _compute.flags())) or "no bfloat16"
    return f"Measured on {about['cores']} cores of {about['processor']}: {units}."


def report(name: str, lines: list[str]) -> None:
    """Print a table and keep it under benchmarks/results/, with the machine that it was made on."""
    text = "\n".join([*lines, "", machine()]) + "\n"
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
