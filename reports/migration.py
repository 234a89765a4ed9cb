"""What moving from one model to another changes: in a sentence, in Markdown, in plain text and in JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from harness.migration import MARGIN, Delta, Hit, Migration, Moved
from reports import choosing
from reports.choosing import cell, plain
from reports.table import NOTHING

Rows = list[list[str]]
_BEYOND_CHANCE = 0.05
_SHARE = f"{100 * (1 - MARGIN):g} %"
_WIDTH = 100  # columns of the terminal
_NAME = 34  # characters of a slice's name there
_SNIPPET = 80  # characters of a text in a table of Markdown
_MOST = 3  # queries, and documents of each, that a terminal shows


def sentence(m: Migration) -> str:
    """The answer in two sentences: what the move changes, and the smallest dimension that keeps the old quality."""
    overall, comparison = m.overall, m.overall.comparison
    assert comparison is not None, "all queries are always compared"
    chance = "beyond chance" if comparison.p < _BEYOND_CHANCE else "not beyond chance"
    text = (
        f"{m.new} instead of {m.old}: {m.metric} {_score(overall.before)} -> {_score(overall.after)}, "
        f"{comparison.difference:+.4f} ({_interval(comparison.low, comparison.high)}), {chance}; "
        f"{comparison.wins:,} queries better, {comparison.ties:,} equal, {comparison.losses:,} worse."
    )
    if m.smallest is None:
        return f"{text} No cell of the new model is shown to keep {_SHARE} of {m.old}."
    return f"{text} The smallest that is shown to keep {_SHARE} of {m.old}: {m.smallest.name}."


def limits(m: Migration) -> list[str]:
    """A sentence on which of the user's limits the new cell keeps; none where there are none."""
    broken = " and ".join(f"{limit} ({why})" for limit, why in m.broken.items())
    if not m.kept:
        return [f"{m.new} doesn't keep {broken}."] if broken else []
    return [f"{m.new} keeps {' and '.join(m.kept)}{f', but not {broken}' if broken else ''}."]


def markdown(m: Migration) -> str:
    """The sentence, the notes, three tables, and the queries that get worse and better with what is found for them."""
    lines = [f"## Moving to {_markup(m.new)} on {_markup(m.dataset)}", "", _markup(" ".join([sentence(m), *limits(m)])), ""]
    lines += [line for note in m.notes for line in (f"> {_markup(note)}", "")]
    for title, rows in _tables(m):
        lines += [f"### {_markup(title)}", "", *_markdown_table([[_markup(text) for text in row] for row in rows]), ""]
    for title, queries in _moved(m):
        head = ["query", "before", "after", "found before", "found after"]
        found = [
            [_markup(_named(one)), f"{one.before:.3f}", f"{one.after:.3f}", _stacked(one.found_before), _stacked(one.found_after)]
            for one in queries
        ]
        lines += [f"### {title}", "", *_markdown_table([head, *found]), ""]
    return "\n".join(lines)


def text(m: Migration) -> str:
    """The same for a terminal, in lines of about 100 characters; of the queries only those that change most."""
    said = [sentence(m), *limits(m), *(f"note: {note}" for note in m.notes)]
    lines = [line for one in said for line in _wrapped(one)] + [""]
    for title, rows in _tables(m):
        lines += [*_wrapped(title), *_columns([[_middle(plain(value), _NAME) for value in row] for row in rows]), ""]
    for title, queries in _moved(m):
        lines.append(title)
        for one in queries[:_MOST]:
            lines.append(f"  {one.before:.3f} -> {one.after:.3f}  {_short(_named(one), _WIDTH - 18)}")
            for when, hits in (("before", one.found_before), ("after", one.found_after)):
                lines += [f"      {when:6}  {_short(_hit(hit), _WIDTH - 14)}" for hit in hits[:_MOST]]
        lines.append("")
    return "\n".join(lines)


def as_json(m: Migration) -> str:
    """Everything, with the smallest dimension that keeps the old quality; null stands for what is unknown."""
    made = {**asdict(m, dict_factory=_known), "smallest": m.smallest and asdict(m.smallest, dict_factory=_known)}
    return json.dumps({"sentence": sentence(m), "limits": limits(m), **made}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _known(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in pairs}


def _tables(m: Migration) -> list[tuple[str, Rows]]:
    """Title and rows, the heading first, of each table."""
    slices = [["queries", "number", "before", "after", "change", "95 %", "p", "up/same/down"], *map(_delta, (m.overall, *m.slices))]
    shares = [_SHARE] if m.needs.give_up == MARGIN else [_SHARE, f"{100 * (1 - m.needs.give_up):g} %"]
    dims = [["dim", m.metric, "change", "95 %", "bytes a document", *(f"keeps {share}" for share in shares)]]
    for at in m.dims:
        one = at.comparison
        size = NOTHING if at.bytes_per_document is None else f"{at.bytes_per_document:,.0f}"
        means = [f"{at.mean:.4f}", f"{one.difference:+.4f}", _interval(one.low, one.high)]
        dims.append([f"{at.dim}" if at.dim else at.name, *means, size, *(at.keeps, at.within)[: len(shares)]])
    cost = [
        ["documents", "hours", "USD", "index before", "index after"],
        [f"{m.cost.documents:,}", _figure(m.cost.hours), _figure(m.cost.usd), _size(m.cost.bytes_before), _size(m.cost.bytes_after)],
    ]
    scale = f"{m.cost.documents:,} documents and {m.needs.queries_per_day:,.0f} queries a day"
    return [
        (f"{m.metric} before and after, on all queries and on each slice", slices),
        (f"The new model at every dimension measured, compared with {m.old}", dims),
        (f"Embedding all documents again with {m.new}", cost),
        (f"What they cost with {scale}; embedding again is in the year", _running(m)),
    ]


def _running(m: Migration) -> Rows:
    """Latency and money before and after; the old documents are embedded, so the next year needs no more of that."""
    rows = [["", "p95 ms", "USD a month", "USD in the next year"]]
    staying = None if m.bill_before.month_usd is None else 12 * m.bill_before.month_usd
    for name, bill, year in ((m.old, m.bill_before, staying), (m.new, m.bill_after, m.bill_after.year_usd)):
        rows.append([name, choosing.p95(bill), _usd(bill.month_usd), _usd(year)])
    return rows


def _delta(one: Delta) -> list[str]:
    comparison = one.comparison
    if comparison is None:
        return [one.slice, f"{one.queries:,}", NOTHING, NOTHING, "too few", *[NOTHING] * 3]
    counts = f"{comparison.wins:,}/{comparison.ties:,}/{comparison.losses:,}"
    means = [_score(one.before), _score(one.after), f"{comparison.difference:+.4f}"]
    return [one.slice, f"{one.queries:,}", *means, _interval(comparison.low, comparison.high), _score(one.p_adjusted), counts]


def _moved(m: Migration) -> list[tuple[str, tuple[Moved, ...]]]:
    both = (("Queries that get worse, most first", m.worse), ("Queries that get better, most first", m.better))
    return [(title, queries) for title, queries in both if queries]


def _markdown_table(rows: Rows) -> list[str]:
    head, *body = rows
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]


def _columns(rows: Rows) -> list[str]:
    """Rows as lines of text: the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def _stacked(hits: Sequence[Hit]) -> str:
    return "<br>".join(_markup(_clip(_hit(hit), _SNIPPET)) for hit in hits)


def _hit(hit: Hit) -> str:
    return f"{hit.document} ({'not judged' if hit.grade is None else f'grade {hit.grade}'}) {hit.text}"


def _named(one: Moved) -> str:
    return f"{one.query}: {one.text}"


def _markup(text: str) -> str:
    """A cell of a Markdown table."""
    return cell(" ".join(text.split()))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(plain(text), _WIDTH)


def _short(text: str, width: int) -> str:
    return _clip(plain(text), width)


def _middle(text: str, width: int) -> str:
    """Both ends of a text that is too long: the value of a slice stands at its end."""
    return text if len(text) <= width else f"{text[: width - width // 3 - 1]}…{text[-(width // 3) :]}"


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _interval(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}"


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}"


def _figure(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _usd(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.2f}"


def _size(count: int | None) -> str:
    return NOTHING if count is None else f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"
