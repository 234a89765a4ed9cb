"""choosing.md: the answer in words and one table."""

from __future__ import annotations

import re

from harness.picks import Pick
from harness.result import Leaderboard
from harness.scale import Bill, Needs, milliseconds
from harness.verdict import Verdict

NOTHING = "\u2013"
"""What stands in a cell that was not, or could not be, measured."""
EXPECTED = (
    "Expected is the measured mean less its optimism: the choice is made again on resampled queries, and what it gains there over "
    "all queries is taken off, so that a figure is not flattered by having been picked."
)


def markdown(board: Leaderboard, verdict: Verdict) -> str:
    """The table "choosing a model" for this corpus, as Markdown."""
    facts = board.dataset
    lines = [
        f"# Choosing a model for {cell(facts['name'])}",
        "",
        f"{facts['documents']:,} documents, {facts['queries']:,} queries, split {cell(facts['split'])}; ranked by {board.headline}.",
        "",
        f"> {cell(' '.join([verdict.certainty, *held_back(verdict)]))}",
        "",
        f"| what for | choose | {board.headline} (95 %) | expected | runner-up | {' | '.join(heading for heading, _ in COSTS)} | why |",
        "| --- | --- | --- | --- | --- | " + "--- | " * (len(COSTS) + 1),
        *(f"| {' | '.join(cell(text) for text in row(pick))} |" for pick in verdict.picks),
        "",
        f"{EXPECTED} {costs_at(verdict.needs, facts['documents'])}",
        "",
        *(line for text in constraints(verdict) for line in (f"- {cell(text)}",)),
        *([""] if verdict.prices else []),
        "| first in one respect | cell | |",
        "| --- | --- | --- |",
        *(f"| {one.question} | {cell(one.result.name if one.result else 'nothing')} | {cell(one.reason)} |" for one in verdict.extremes),
        "",
        "Floors, for comparison: "
        + ("; ".join(f"`{r.spec}` {r.mean(board.headline):.4f}" for r in board.results if r.floor) or "none measured")
        + ".",
    ]
    if board.absences:
        lines += ["", "Not measured:", ""]
        lines += [f"- `{cell(absence.spec)}` {absence.status}: {cell(absence.reason)}" for absence in board.absences]
    return "\n".join(lines) + "\n"


def row(pick: Pick) -> list[str]:
    """A pick as texts: what for, choose, measured, expected, runner-up, the costs, why."""
    if pick.result is None or pick.bill is None:
        return [pick.task, "nothing", *[NOTHING] * (3 + len(COSTS)), pick.reason]
    measured = f"{pick.mean:.3f} ({pick.low:.3f} to {pick.high:.3f}{', rough' if pick.rough else ''})"
    runner_up = pick.runner_up.name if pick.runner_up else NOTHING
    costs = [_text(pick.bill) for _, _text in COSTS[:-1]] + [str(pick.result.model.get("licence") or NOTHING)]
    return [pick.task, pick.result.name, measured, f"{pick.expected:.3f}", runner_up, *costs, pick.reason]


def usd_a_million(bill: Bill) -> str:
    """List price of embedding a million such documents."""
    return NOTHING if bill.embed_usd is None else f"{bill.embed_usd / bill.documents * 1e6:,.2f}"


def bytes_each(bill: Bill) -> str:
    """Bytes of the index a document, and of the vectors that its shortlists are rescored by."""
    beside = f" (+ {bill.disk_bytes / bill.documents:,.0f} to rescore)" if bill.disk_bytes else ""
    return NOTHING if bill.bytes is None else f"{bill.bytes / bill.documents:,.0f}{beside}"


def p95(bill: Bill) -> str:
    """Milliseconds within which 95 % of queries are answered, one at a time."""
    return NOTHING if bill.p95_ms is None else milliseconds(bill.p95_ms)


COSTS = (("USD per million documents", usd_a_million), ("bytes a document", bytes_each), ("p95 ms", p95), ("licence", str))


def costs_at(needs: Needs, measured: int) -> str:
    """At what scale costs are given."""
    documents = needs.documents or measured
    text = f"Costs are for {documents:,} documents"
    if documents != measured:
        text += f", worked out from the {measured:,} measured"
    if needs.queries_per_day:
        text += f", and {needs.queries_per_day:,.0f} queries a day"
    return f"{text}; p95 ms is one query alone, embedding and search."


def constraints(verdict: Verdict) -> list[str]:
    """A sentence for each constraint: how many cells it excludes and what it costs."""
    models = [one for one in verdict.standings if not one.result.floor]
    lines = []
    for price in verdict.prices:
        text = f"{price.constraint} excludes {price.excluded} of {len(models)} cells"
        if price.without is not None and price.difference:
            text += (
                f" and costs {price.difference:.4f} {verdict.headline} ({price.low:.4f} to {price.high:.4f}):"
                f" without it {price.without.name} would be the best"
            )
        elif price.without is not None:
            text += f"; without it {price.without.name} could be chosen"
        elif all(one.broken for one in models):
            text += "; without it alone there would still be none to choose"
        elif models[0].broken.get(price.constraint.partition(" = ")[0]):
            text += "; without it alone the choice would be the same: what is better breaks another limit too"
        elif price.excluded:
            text += " and costs nothing: the best keeps it"
        lines.append(f"{text}.")
    return lines


def held_back(verdict: Verdict) -> list[str]:
    """A sentence on what would be better than the overall choice, where constraints exclude it; else none."""
    better = verdict.picks[0].held_back
    if better is None:
        return []
    gap, why = better.comparison, " and ".join(f"{name} ({reason})" for name, reason in better.broken.items())
    return [
        f"{better.result.name} is {gap.difference:.3f} ({gap.low:.3f} to {gap.high:.3f}) better than the choice, but excluded by {why}."
    ]


def cell(text: object) -> str:
    """Text that stays one table cell and no markup, whatever is in it."""
    line = "".join(sign if sign.isprintable() else " " for sign in str(text))
    escape = r"[\\\|`*_\[\]<>#]" if re.search(r"[`|<\[\\]", line) else r"(?!)"
    return re.sub(escape, lambda sign: f"\\{sign[0]}", line)


def plain(text: str) -> str:
    """One line without anything that would steer a terminal."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
