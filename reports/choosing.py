"""choosing.md: the answer in words and one table."""

from __future__ import annotations

from harness.result import Leaderboard
from harness.verdict import Verdict


def markdown(board: Leaderboard, verdict: Verdict) -> str:
    """The table "choosing a model" for this corpus, as Markdown."""
    facts = board.dataset
    lines = [
        f"# Choosing a model for {cell(facts['name'])}",
        "",
        f"{facts['documents']:,} documents, {facts['queries']:,} queries, split {cell(facts['split'])}; ranked by {board.headline}.",
        "",
        f"> {cell(verdict.certainty)}",
        "",
        "| what for | choose | why |",
        "| --- | --- | --- |",
        *(
            f"| {pick.question} | {f'`{cell(pick.result.name)}`' if pick.result else 'nothing'} | {cell(pick.reason)} |"
            for pick in verdict.picks
        ),
        "",
        "Floors, for comparison: "
        + ("; ".join(f"`{r.spec}` {r.mean(board.headline):.4f}" for r in board.results if r.floor) or "none measured")
        + ".",
    ]
    if board.absences:
        lines += ["", "Not measured:", ""]
        lines += [f"- `{cell(absence.spec)}` {absence.status}: {cell(absence.reason)}" for absence in board.absences]
    return "\n".join(lines) + "\n"


def cell(text: object) -> str:
    """Text that stays one table cell and no markup, whatever is in it."""
    escaped = "".join(f"\\{sign}" if sign in "\\|`*_[]<>#" else sign for sign in str(text) if sign.isprintable())
    return escaped if "`" in str(text) or "|" in str(text) or "<" in str(text) else "".join(c for c in str(text) if c.isprintable())
