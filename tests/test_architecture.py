"""The imports as they are written, held against the directions that docs/architecture.md draws."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parent.parent
TIERS = [
    {"errors"},
    {"vectors", "metrics", "stats", "progress", "environment", "files", "keys"},
    {"flat"},
    {"codes", "embedder", "result"},
    {"gpu", "images"},
    {"index"},
    {"approximate", "dataset"},
    {"store", "experiment", "beir", "slices", "remote", "tokens"},
    {"batches", "compaction", "crew", "extensions", "http", "pace", "pair", "purse", "shipped"},
    {"dispatch"},
    {"catalog", "ledger"},
    {"baseline", "filling", "models", "scale", "senses"},
    {"picks", "cells", "check", "doctor", "evidence", "plan", "prompts"},
    {"measuring", "verdict"},
    {"migration", "runner"},
]
MODULES = sorted(path.stem for path in (ROOT / "harness").glob("*.py"))
HEAVY = (
    "torch",
    "faiss",
    "transformers",
    "sentence_transformers",
    "mteb",
    "openai",
    "voyageai",
    "cohere",
    "pandas",
    "pyarrow",
    "matplotlib",
)


def ours(path: Path) -> set[str]:
    """Every module of ours that a file imports, anywhere in it: harness.x, providers.x, reports.x."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {child for child in children if (ROOT / (child.replace(".", "/") + ".py")).exists()}
            found |= modules or {node.module}
    return {name for name in found if name.split(".")[0] in ("harness", "providers", "reports")}


def test_the_harness_imports_only_what_lies_before() -> None:
    place = {module: at for at, tier in enumerate(TIERS) for module in tier}
    assert set(MODULES) - {
        "__init__",
        "__main__",
        "cli",
        "cli_gate",
        "cli_prompts",
        "commands",
        "config",
        "console",
        "pytest_plugin",
    } == set(place)
    for module, at in place.items():
        for name in ours(ROOT / "harness" / f"{module}.py"):
            if name == "providers":
                assert module == "catalog", "only the catalog looks providers up"
                continue
            target = name.removeprefix("harness.")
            assert place[target] < at, f"harness.{module} imports {name}, which does not lie before it"


def test_providers_see_the_extension_points_only() -> None:
    allowed = {
        f"harness.{name}"
        for name in ("embedder", "environment", "errors", "vectors", "dataset", "images", "index", "remote", "keys", "http")
    }
    for path in (ROOT / "providers").glob("*.py"):
        assert {name for name in ours(path) if name.startswith("harness")} <= allowed, path.name
        assert not {name for name in ours(path) if name.startswith("reports")}, path.name


def test_reports_see_results_and_verdicts_only() -> None:
    seen = {f"harness.{name}" for name in ("metrics", "result", "experiment", "scale", "picks", "verdict", "check", "migration", "senses")}
    for path in (ROOT / "reports").glob("*.py"):
        assert {name for name in ours(path) if not name.startswith("reports")} <= seen, path.name


def test_only_the_command_line_prints_or_exits() -> None:
    for path in [*(ROOT / "harness").glob("*.py"), *(ROOT / "providers").glob("*.py"), *(ROOT / "reports").glob("*.py")]:
        if path.stem in ("cli", "cli_gate", "cli_prompts", "commands", "config", "console", "__main__"):
            continue
        calls = {n.func.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not calls & {"print", "exit", "quit", "input"}, path.name


@pytest.mark.parametrize("code", ["import harness, harness.cli", "import harness.runner, harness.verdict, reports"])
def test_importing_brings_nothing_heavy(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & set(HEAVY)


def test_help_brings_nothing_heavy() -> None:
    code = "import sys; from harness.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert not set(done.stderr.split()) & set(HEAVY)


def test_public_names_are_sorted_and_there() -> None:
    assert harness.__all__ == sorted(harness.__all__)
    assert set(harness._HOME) == set(harness.__all__)
    assert all(getattr(harness, name) for name in harness.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        harness.nothing  # noqa: B018


def test_faiss_is_no_base_dependency_and_its_extras_exclude_each_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert not [name for name in project["project"]["dependencies"] if name.startswith("faiss")]
    assert project["tool"]["uv"]["conflicts"] == [[{"extra": "cpu"}, {"extra": "gpu"}]]


def test_no_file_is_longer_than_400_lines() -> None:
    for folder in ("harness", "providers", "reports", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
