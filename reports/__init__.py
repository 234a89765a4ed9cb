"""Results in, pages out: ``write`` turns a leaderboard into files that a person reads."""

from __future__ import annotations

from pathlib import Path

from harness.result import Leaderboard
from harness.verdict import Verdict, choose
from reports import choosing, page, table

__all__ = ["write"]


def write(board: Leaderboard, folder: Path, verdict: Verdict | None = None) -> dict[str, Path]:
    """Write leaderboard.csv, choosing.md and leaderboard.html; returns name -> path.

    ``verdict`` is the board's under the user's needs (harness.choose); None for one without needs. Where the page would be
    too large, its queries go to queries.html. Each file appears whole or not at all.
    """
    verdict = verdict or choose(board)
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
