"""How far the corpus and its judgements can be trusted, and the queries that no model answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.metrics import UNJUDGED
from harness.result import Leaderboard, Result
from harness.verdict import Verdict
from reports.table import NOTHING

FIRST = 10
"""How many hits of a query are looked at."""
_APART = 0.2  # unjudged shares further apart than this make a comparison of the models unfair
_MANY = 0.05  # a larger share of the queries, or documents, is worth a warning


@dataclass(frozen=True, slots=True)
class Note:
    """One figure, what it counts, and what it means for trust; ``warn`` where it matters."""

    figure: str
    what: str
    meaning: str
    warn: bool = False


def answered(result: Result) -> dict[str, bool]:
    """Query id -> whether a relevant document is among its first ten hits."""
    pairs = zip(result.query_ids, result.grades, strict=True)
    return {query: bool((grades[:FIRST] > 0).any()) for query, grades in pairs}


def failed_by_all(verdict: Verdict) -> set[str]:
    """Queries for which no model, each at its best cell, has a relevant document among its first ten hits."""
    models = compared(verdict)
    return {query for query in (models[0].query_ids if models else ()) if not any(answered(model)[query] for model in models)}


def compared(verdict: Verdict) -> list[Result]:
    """Each model at its best cell; floors only where there is nothing else."""
    cells = [one.result for one in verdict.best_cells()]
    return [cell for cell in cells if not cell.floor] or cells


def unjudged_share(result: Result) -> float:
    """The share of the first ten hits, over all queries, that nobody judged."""
    first = [grades[:FIRST] == UNJUDGED for grades in result.grades]
    return float(np.concatenate(first).mean()) if sum(map(len, first)) else 0.0


def health(board: Leaderboard, verdict: Verdict) -> dict[str, Any]:
    """Notes and a line per model."""
    cells, documents = [one.result for one in verdict.best_cells()], board.dataset["documents"]
    failed = failed_by_all(verdict)
    lines = [
        {
            "name": cell.name,
            "floor": cell.floor,
            "unjudged": f"{100 * unjudged_share(cell):.0f} %",
            "unanswered": f"{sum(not one for one in answered(cell).values()):,}",
            "cut": _share(cell.cost.truncated_documents, documents),
        }
        for cell in cells
    ]
    return {"notes": _notes(board, verdict, failed), "lines": lines, "failed": len(failed)}


def _notes(board: Leaderboard, verdict: Verdict, failed: set[str]) -> list[Note]:
    facts, queries = board.dataset, board.dataset["queries"]
    twice, one, left = (facts.get(name) for name in ("duplicate_documents", "queries_with_one_relevant", "queries_left_out"))
    notes = [*_unjudged(verdict), _unanswered(failed, queries, verdict)]
    if one is not None:
        text = (
            "Their score hangs on a single hit, so it jumps; judge more documents for them if you can."
            if one
            else "No score hangs on a single hit."
        )
        notes.append(Note(f"{one:,} of {queries:,}", "queries have only one relevant document", text))
    if twice is not None:
        text = "A copy of a relevant document is a miss unless it was judged too." if twice else "No hit is lost to an unjudged copy."
        notes.append(Note(f"{twice:,}", "documents have the text of another", text, twice > _MANY * facts["documents"]))
    if left is not None:
        text = "They can't be scored and are in no figure here." if left else "Every query counts in the figures."
        notes.append(Note(f"{left:,}", "queries without a relevant document were left out", text, left > _MANY * queries))
    return [*notes, *_cut(verdict, facts["documents"]), *_prompts(board)]


def _prompts(board: Leaderboard) -> list[Note]:
    """A note for each model whose prompts seem wrong, and one for all others that were checked."""
    wrong = [
        Note(remark.spec, "may be measured with the wrong prompts", f"{remark.text}.", warn=True) for remark in board.remarks if remark.warn
    ]
    fine = [remark.spec for remark in board.remarks if not remark.warn]
    what = f"model{'s' * (len(fine) != 1)} ranked no better with another query prompt of those that are known"
    return [*wrong, *([Note(f"{len(fine):,}", what, f"Checked: {', '.join(fine)}.")] if fine else [])]


def _unjudged(verdict: Verdict) -> list[Note]:
    models = compared(verdict)
    if not models:
        return []
    shares = [unjudged_share(model) for model in models]
    low, high = min(shares), max(shares)
    figure = f"{100 * high:.0f} %" if round(100 * low) == round(100 * high) else f"{100 * low:.0f} to {100 * high:.0f} %"
    apart = high - low > _APART
    text = "An unjudged hit counts as not relevant, so the figures are lower bounds"
    if apart:
        text += f", and the models are not treated alike: {models[shares.index(high)].name} may be better than it looks."
    else:
        text += "; the models are about equally concerned." if len(models) > 1 else "."
    return [Note(figure, "of the first ten hits were never judged", text, apart)]


def _unanswered(failed: set[str], queries: int, verdict: Verdict) -> Note:
    what = f"queries have no relevant document among the first {FIRST} hits of any model"
    if not failed:
        return Note(f"0 of {queries:,}", what, "Each query is answered by at least one model.")
    floor = next((one.result for one in verdict.best_cells() if one.result.floor and one.result.spec != "random"), None)
    found = sum(answered(floor)[query] for query in failed) if floor else 0
    text = "They tell no model from another: read them, the answer may be missing, misjudged or out of all models' reach."
    if floor and found and floor not in compared(verdict):
        text += f" {floor.name} answers {found:,} of them."
    return Note(f"{len(failed):,} of {queries:,}", what, text)


def _cut(verdict: Verdict, documents: int) -> list[Note]:
    cut = {cell.name: cell.cost.truncated_documents for cell in compared(verdict) if cell.cost.truncated_documents}
    if not cut:
        return [Note("0", "documents are known to be longer than a model reads", "Nothing is known to be cut off.")]
    worst = max(cut, key=lambda name: cut[name])
    text = "What is beyond its limit is not embedded and can't be found."
    return [Note(f"{cut[worst]:,} of {documents:,}", f"documents are longer than {worst} reads", text, cut[worst] > _MANY * documents)]


def _share(count: int | None, of: int) -> str:
    return NOTHING if count is None else f"{count:,}" if not count else f"{count:,} ({100 * count / of:.0f} %)"
