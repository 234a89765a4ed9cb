"""What a user gets by `pip install`: built, installed elsewhere, run outside the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import harness

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_packages_catalog_templates_and_small_datasets(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        *(
            "harness/cli.py",
            "providers/catalog.toml",
            "reports/templates/leaderboard.html",
            "reports/templates/page.css",
            "reports/templates/queries.js",
        ),
        *("harness/_datasets/quickstart/corpus.jsonl", "harness/_datasets/quickstart/qrels/test.tsv"),
        "harness/_datasets/pystdlib/build.py",
        "harness/_datasets/senses/pairs.jsonl",
        "reports/templates/senses.html",
    } <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"harness", "providers", "reports", "bakeoff"}


def test_eval_quickstart_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Into a bare environment that borrows the installed dependencies, but not this checkout."""
    environment, work = tmp_path / "env", tmp_path / "elsewhere"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a .pth in there is not read: no editable install
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = "import harness; print(harness.__file__); from harness.cli import main; main()"
    command = [python, "-c", script, "eval", "quickstart", "-m", "wordllama/256", "--dims", "native", "-q"]
    done = subprocess.run(command, cwd=work, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(site))
    board = harness.load(work / "out" / "quickstart")
    assert {r.spec for r in board.results} == {"bm25", "random", "wordllama/256"}
    assert board.dataset["documents"] >= 150
    assert (work / "out" / "quickstart" / "leaderboard.html").is_file()
