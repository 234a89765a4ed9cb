"""Find a dataset by the user's words: a folder, or the name of one that comes with bakeoff."""

from __future__ import annotations

import hashlib
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

from harness import beir
from harness.dataset import Dataset
from harness.environment import cache_folder
from harness.errors import DatasetError, nearest


def root() -> Path:
    """The folder of shipped datasets: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "_datasets"
    return packaged if packaged.is_dir() else Path(__file__).parent.parent / "datasets"


def names() -> list[str]:
    """The shipped datasets' names, sorted."""
    return sorted(path.parent.name for path in root().glob("*/dataset.toml"))


def load(where: str | Path, split: str = "test") -> Dataset:
    """Load a dataset by path or by shipped name; a path that exists wins. Raises DatasetError."""
    path = Path(where)
    if path.exists():
        if "builder" in beir.read_about(path) and path.resolve().parent != root().resolve():
            raise DatasetError(f"{path}: dataset.toml names a builder, but only datasets shipped with bakeoff may run code")
    elif str(where) in names():
        path = root() / str(where)
    else:
        known = names()
        raise DatasetError(f"{where}: no such folder, nor a shipped dataset ({', '.join(known)}){nearest(str(where), known)}")
    if builder := beir.read_about(path).get("builder"):
        path = _built(path, builder)
    return beir.read(path, split)


def _built(folder: Path, builder: str) -> Path:
    """Run a shipped dataset's builder once for this Python version and this builder; returns the folder it filled."""
    made_by = hashlib.sha256((folder / builder).read_bytes()).hexdigest()[:8]
    target = cache_folder() / "datasets" / f"{folder.name}-{'.'.join(map(str, sys.version_info[:3]))}-{made_by}"
    if (target / "dataset.toml").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        runpy.run_path(str(folder / builder))["build"](half)
        about = (folder / "dataset.toml").read_text(encoding="utf-8")
        lines = [line for line in about.splitlines() if not line.startswith("builder")]
        (half / "dataset.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            half.rename(target)
        except OSError:  # another process was faster
            if not (target / "dataset.toml").exists():
                raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return target
