"""The first screen: what to choose in one sentence, and the table "choosing a model"."""

from __future__ import annotations

from typing import Any

from harness.picks import Pick
from harness.result import Leaderboard
from harness.scale import Bill
from harness.verdict import Verdict
from reports import choosing

_SHORT = 34  # characters of names that stand on one line of the table


def answer(board: Leaderboard, verdict: Verdict) -> dict[str, Any]:
    """What the top of the page says, as texts."""
    overall = verdict.picks[0]
    return {
        "model": overall.result and overall.result.name,
        "words": _words(overall, verdict) if overall.bill else f"No model to choose: {overall.reason}.",
        "short": max((len(pick.result.name) for pick in verdict.picks if pick.result), default=0) <= _SHORT,
        "headings": [heading for heading, _ in choosing.COSTS],
        "rows": [_row(pick) for pick in verdict.picks],
        "notes": f"{choosing.EXPECTED} {choosing.costs_at(verdict.needs, board.dataset['documents'])}",
        "constraints": choosing.constraints(verdict),
    }


def _words(pick: Pick, verdict: Verdict) -> str:
    """What follows the name of the model."""
    assert pick.bill is not None, "a pick with a result has a bill"
    interval = f"{pick.low:.3f} to {pick.high:.3f}{', a rough one' if pick.rough else ''}"
    caution = [f"But {pick.caution}."] if pick.caution else []
    return (
        f"On {pick.queries:,} queries it reaches {verdict.headline} {pick.mean:.3f} (95 % interval {interval});"
        f" on queries it has not seen, expect {pick.expected:.3f}. {' '.join([*caution, _costs(pick.bill), *choosing.held_back(verdict)])}"
    )


def _costs(bill: Bill) -> str:
    money = "Its price is unknown" if bill.year_usd is None else f"It costs {bill.year_usd:,.2f} USD in the first year"
    if bill.year_usd == 0:
        money = "It has no price"
    size = "" if bill.bytes is None else f", takes {choosing.bytes_each(bill)} bytes a document"
    latency = "its latency was not measured" if bill.p95_ms is None else f"answers 95 % of queries within {choosing.p95(bill)} ms"
    return f"{money}{size}, and {latency}."


def _row(pick: Pick) -> dict[str, Any]:
    texts = choosing.row(pick)
    costs = texts[5 : 5 + len(choosing.COSTS)]
    return {
        "task": pick.task,
        "model": pick.result and pick.result.name,
        "mean": f"{pick.mean:.3f}",
        "interval": f"{pick.low:.3f} to {pick.high:.3f}",
        "rough": pick.rough,
        "expected": f"{pick.expected:.3f}",
        "runner_up": pick.runner_up and pick.runner_up.name,
        "costs": [{"text": text, "number": heading != "licence"} for text, (heading, _) in zip(costs, choosing.COSTS, strict=True)],
        "why": pick.reason,
    }
