"""leaderboard.html and, where it would grow too large, queries.html: self-contained, no network, corpus text always text."""

from __future__ import annotations

from typing import Any

from harness.result import Leaderboard
from harness.verdict import Verdict
from reports import answer, costs, drilldown, health, plots, smaller, standings
from reports.embed import script_json, template
from reports.table import NOTHING

PAGE, QUERIES = "leaderboard.html", "queries.html"
LARGEST = 3_000_000
"""Bytes of one page; a drill-down that does not fit goes to a page of its own."""


def html(board: Leaderboard, verdict: Verdict) -> dict[str, str]:
    """Render the page, and the page of the queries where both together would be too large: name -> HTML."""
    context = _context(board, verdict)
    bare = len(_render(PAGE, context, drilldown="").encode("utf-8", "replace"))
    smaller = (script_json(drilldown.data(board, verdict, *step)) for step in drilldown.LADDER)
    fits = next((text for text in smaller if bare + len(text.encode()) < LARGEST), None)
    if fits is not None:
        return {PAGE: _render(PAGE, context, drilldown=fits)}
    whole = script_json(drilldown.data(board, verdict))
    return {PAGE: _render(PAGE, context, drilldown=""), QUERIES: _render(QUERIES, context, drilldown=whole)}


def _render(name: str, context: dict[str, Any], drilldown: str) -> str:
    from markupsafe import Markup

    return template(name).render(**context, drilldown=Markup(drilldown))  # noqa: S704 - script_json made it safe


def _context(board: Leaderboard, verdict: Verdict) -> dict[str, Any]:
    """What the templates are filled with."""
    from markupsafe import Markup

    table = standings.leaderboard(board, verdict)
    return {
        "board": board,
        "verdict": verdict,
        "facts": _facts(board),
        "answer": answer.answer(board, verdict),
        "leaderboard": table,
        "slice_data": Markup(script_json(table["data"])),  # noqa: S704 - script_json made it safe
        "figures": plots.plots(board, verdict),
        "heat": standings.heat(verdict),
        "duels": standings.duels(verdict),
        "health": health.health(board, verdict),
        "smaller": smaller.smaller(board),
        "smaller_headings": smaller.HEADINGS,
        "scaled": smaller.scaled(board, verdict),
        "scales": [times * board.dataset["documents"] for times in smaller.SCALES],
        "costs": costs.costs(verdict),
        "paid": costs.paid(board),
        "paid_headings": costs.PAID,
        "environment": costs.environment(board),
        "reproduce": costs.reproduce(board, verdict),
        "nothing": NOTHING,
    }


def _facts(board: Leaderboard) -> list[tuple[str, str]]:
    facts = board.dataset
    shown = [
        ("Description", facts["description"]),
        ("Task", facts["task"]),
        ("Licence", facts["licence"]),
        *((f"Instruction for a {role}", text) for role, text in sorted(facts.get("instructions", {}).items())),
        ("Split", facts["split"]),
        ("Documents", f"{facts['documents']:,}, {facts['mean_words']:.0f} words on average, the longest {facts['longest_words']:,}"),
        ("Images", f"{facts['images']:,}" if facts["images"] else ""),
        ("Queries", f"{facts['queries']:,}, {facts['relevant_per_query']:.1f} relevant documents each"),
        ("Passed over", f"{facts['entries_skipped']:,} empty entries (skip_empty)" if facts["entries_skipped"] else ""),
        ("Judgements", f"{facts['judgements']:,}"),
        *(
            (f"Queries by {name}", ", ".join(f"{value} {count}" for value, count in sorted(counts.items())))
            for name, counts in facts["query_tags"].items()
        ),
    ]
    return [(name, text) for name, text in shown if text]
