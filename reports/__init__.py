"""Results in, pages out: ``write`` turns a leaderboard into files that a person reads."""

from __future__ import annotations

from pathlib import Path

from harness.result import Leaderboard
from harness.scale import Needs
from harness.verdict import choose
from reports import choosing, page, table

__all__ = ["write"]


def write(board: Leaderboard, folder: Path, needs: Needs | None = None) -> dict[str, Path]:
    """Write leaderboard.csv, choosing.md and leaderboard.html, for the user's ``needs``; returns name -> path.

    Where the page would be too large, its queries go to queries.html. Each file appears whole or not at all.
    """
    verdict = choose(board, needs)
    texts = {
        "leaderboard.csv": table.csv(board),
        "choosing.md": choosing.markdown(board, verdict),
        **page.html(board, verdict),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        half = folder / f".half-{name}"
        half.write_text(text, encoding="utf-8", errors="replace")  # half a surrogate pair is no reason to lose a page
        half.replace(folder / name)
    if page.QUERIES not in texts:
        (folder / page.QUERIES).unlink(missing_ok=True)
    return {name: folder / name for name in texts}
