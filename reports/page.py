"""leaderboard.html: one self-contained file, no network, corpus text always text."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from harness.result import Leaderboard
from harness.verdict import Standing, Verdict
from reports import plots
from reports.table import columns


def html(board: Leaderboard, verdict: Verdict) -> str:
    """Render the page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = files("reports").joinpath("templates/leaderboard.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = columns(board, verdict)
    top = max((standing.high for standing in verdict.standings), default=0.0)
    return environment.from_string(template).render(
        board=board,
        facts=_facts(board),
        verdict=verdict,
        columns=shown,
        rows=[_row(standing, board, shown, top) for standing in verdict.standings],
        plot=Markup(plots.by_dimension(board)),  # noqa: S704 - matplotlib escapes its texts
        slices=_slices(verdict),
        environment=_environment(board),
    )


def _row(standing: Standing, board: Leaderboard, shown: list[Any], top: float) -> dict[str, Any]:
    cells, result = [], standing.result
    for column in shown:
        value = column.value(result)
        number = value if isinstance(value, (int, float)) else result.dim if column.heading == "dim" else None
        cells.append({"text": column.text(result), "number": number, "bar": column.heading == board.headline})
    scale = 100 / top if top else 0.0
    return {
        "cells": cells,
        "share": f"{scale * standing.mean:.1f}",
        "low": f"{scale * standing.low:.1f}",
        "high": f"{scale * standing.high:.1f}",
        "floor": standing.result.floor,
        "tied": standing.tied,
    }


def _slices(verdict: Verdict) -> dict[str, Any]:
    """The slice table: a line per slice, a column per model at the dimension where it does best on all queries."""
    specs: dict[str, int] = {}
    for at, standing in enumerate(verdict.standings):
        specs.setdefault(standing.result.spec, at)
    lines = []
    for one in verdict.slices:
        means = [one.means[at] for at in specs.values()] if one.means else None
        best = max(means) if means else 0.0
        cells = [{"text": f"{mean:.3f}", "best": mean == best, "shade": f"{100 * mean:.0f}"} for mean in means or ()]
        lines.append({"name": one.name, "value": one.value, "queries": one.queries, "cells": cells})
    return {"names": [verdict.standings[at].result.name for at in specs.values()], "lines": lines}


def _facts(board: Leaderboard) -> list[tuple[str, str]]:
    facts = board.dataset
    shown = [
        ("Description", facts["description"]),
        ("Task", facts["task"]),
        ("Licence", facts["licence"]),
        ("Split", facts["split"]),
        ("Documents", f"{facts['documents']:,}, {facts['mean_words']:.0f} words on average, the longest {facts['longest_words']:,}"),
        ("Images", f"{facts['images']:,}" if facts["images"] else ""),
        ("Same text twice", f"{facts['duplicate_documents']:,} documents" if facts["duplicate_documents"] else ""),
        ("Queries", f"{facts['queries']:,}, {facts['relevant_per_query']:.1f} relevant documents each"),
        ("Left out", f"{facts['queries_left_out']:,} queries without a relevant document" if facts["queries_left_out"] else ""),
        ("Passed over", f"{facts['entries_skipped']:,} empty entries (skip_empty)" if facts["entries_skipped"] else ""),
        ("Judgements", f"{facts['judgements']:,}"),
        *(
            (f"Queries by {name}", ", ".join(f"{value} {count}" for value, count in sorted(counts.items())))
            for name, counts in facts["query_tags"].items()
        ),
        ("Fingerprint", ", ".join(f"{part} {digest[:12]}" for part, digest in facts["fingerprint"].items())),
    ]
    return [(name, text) for name, text in shown if text]


def _environment(board: Leaderboard) -> list[tuple[str, str]]:
    """Each fact of where the cells were measured; several values where cells came from several runs."""
    seen: dict[str, list[str]] = {}
    for result in board.results:
        for name, value in [*result.environment.items(), ("device of the search", result.device)]:
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            if text not in seen.setdefault(name, []):
                seen[name].append(text)
    times = sorted(seen.pop("measured", []))
    shown = [(name.replace("_", " "), "; ".join(texts)) for name, texts in seen.items()]
    return [*shown, ("measured", times[0] if times[:1] == times[-1:] else f"{times[0]} to {times[-1]}")] if times else shown
