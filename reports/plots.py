"""The plots of the leaderboard's page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.result import Leaderboard, Result
from harness.scale import Bill
from harness.verdict import Standing, Verdict
from reports.figure import HUES, INK, PALE, PAPER, Figure, Plot, cut, look

_Price = tuple[str, Callable[[Bill], float | None]]
_NAMED = 8  # points of the Pareto front that carry a label in each plot
_BAR = 0.3
_LABELS = ({"xytext": (-6, 4), "ha": "right"}, {"xytext": (7, -8), "ha": "left"})  # of every other model, so that they rarely meet


def plots(board: Leaderboard, verdict: Verdict) -> list[Plot]:
    """All plots that the measurements allow."""
    found = (by_dimension(board), latency(verdict), pareto(board, verdict))
    return [plot for plot in found if plot is not None]


def by_dimension(board: Leaderboard) -> Plot | None:
    """The headline measure against the dimension, a line per model and a dashed line per floor; None without vectors."""
    lines: dict[str, list[Result]] = {}
    for result in board.results:
        if result.dim and result.plain:
            lines.setdefault(result.spec, []).append(result)
    if not lines:
        return None
    with Figure("dim", 6.6, 3.6, list(lines)) as figure:
        axes = figure.made.subplots()
        dims = sorted({result.dim for results in lines.values() for result in results})
        for at, results in enumerate(lines.values()):
            _line(axes, at, sorted(results, key=lambda result: result.dim), board.headline)
        _floors(axes, board, named=True)
        axes.set_xscale("log", base=2)
        axes.set_xticks(dims, labels=[str(dim) for dim in dims])
        axes.minorticks_off()
        axes.set_xlabel("dimensions kept")
        _quality_axis(axes, board.headline)
        figure.legend()
        return Plot(
            f"{board.headline} by dimension",
            "How much is lost by keeping fewer dimensions. A filled point is a dimension that the model was trained for;"
            " a line that falls below bm25 is worse than searching for words.",
            figure.svg(f"{board.headline} by dimension, one line per model"),
        )


def _line(axes: Any, at: int, points: Sequence[Result], headline: str) -> None:
    colour, marker = look(at)
    axes.plot([one.dim for one in points], [one.mean(headline) for one in points], color=colour, marker=marker, linewidth=2)
    untrained = [one for one in points if not one.trained]
    if untrained:
        where = [one.dim for one in untrained], [one.mean(headline) for one in untrained]
        axes.plot(*where, marker, color=colour, markerfacecolor=PAPER)


def pareto(board: Leaderboard, verdict: Verdict) -> Plot | None:
    """The headline measure against latency, memory and money; who is beaten in all of them is pale."""
    cells = [one for one in verdict.standings if not one.result.floor]
    panels = [(name, value) for name, value in _prices(cells) if any(value(one.bill) is not None for one in cells)]
    if not panels:
        return None
    specs = list(dict.fromkeys(one.result.spec for one in cells))
    with Figure("pareto", 4 * len(panels) + 0.8, 3.6, specs) as figure:
        for axes, (name, value) in zip(figure.made.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
            _floors(axes, board, named=axes.get_subplotspec().is_last_col())
            _points(axes, cells, specs, value)
            axes.set_xlabel(name)
            _cost_axis(axes, [price for one in cells if (price := value(one.bill)) is not None])
            _quality_axis(axes, board.headline if axes.get_subplotspec().is_first_col() else "")
        figure.legend()
        figure.unclutter()
        return Plot(
            "Quality against what it costs",
            "Further up is better, further left is cheaper. Coloured points are on the Pareto front, the best named by their"
            " dimension where there is room: nothing else is as good, as fast, as small and as cheap. Pale points are beaten.",
            figure.svg(f"{board.headline} against {', '.join(name for name, _ in panels)}; the Pareto front is coloured"),
            wide=True,
        )


def _points(axes: Any, cells: Sequence[Standing], specs: Sequence[str], value: Callable[[Bill], float | None]) -> None:
    """A point a cell, those of the front above the others, and the first of the front with their names."""
    named = [one.result.identity for one in cells if one.front][:_NAMED]
    for one in sorted(cells, key=lambda one: one.front):
        model, price = specs.index(one.result.spec), value(one.bill)
        if price is None:
            continue
        colour, marker = look(model)
        axes.plot([price], [one.mean], marker, color=colour if one.front else PALE, markersize=7 if one.front else 5)
        if one.result.identity in named:
            axes.annotate(_short(one.result), (price, one.mean), textcoords="offset points", fontsize=9, **_LABELS[model % 2])


def _prices(cells: Sequence[Standing]) -> list[_Price]:
    """What a panel shows: money where anything has a price, else the time to embed."""
    longest = max((one.bill.embed_hours or 0.0 for one in cells), default=0.0)
    unit, hours = ("hours", 1) if longest >= 1 else ("seconds", 3600)
    money: _Price = (f"{unit} to embed all documents", lambda bill: bill.embed_hours and bill.embed_hours * hours)
    if any(one.bill.year_usd for one in cells):
        money = ("USD in the first year", lambda bill: bill.year_usd)
    return [
        ("p95 ms of one query", lambda bill: bill.p95_ms),
        ("bytes a document", _bytes_each),
        money,
    ]


def _bytes_each(bill: Bill) -> float | None:
    return None if bill.all_bytes is None else bill.all_bytes / bill.documents


def latency(verdict: Verdict) -> Plot | None:
    """One query alone, embedding and search, at the median and the 95th percentile, for each model's best cell."""
    cells = [one.result for one in verdict.best_cells() if not one.result.floor]
    if not cells:
        return None
    with Figure("latency", 6.6, 0.9 + 0.75 * len(cells)) as figure:
        axes = figure.made.subplots()
        for at, cell in enumerate(cells):
            _bars(axes, at, cell)
        axes.set_yticks([])
        axes.set_ylim(len(cells) - 0.55, -0.75)
        axes.set_xlabel("ms for one query alone")
        axes.set_xlim(left=0)
        axes.set_axisbelow(True)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.autoscale_view()
        return Plot(
            "Latency",
            "What a user waits for, one query at a time, on the machine named below: the upper bar is the median, the lower one is"
            " not exceeded by 95 % of queries. Blue is embedding, orange is search; the figures behind a bar are their sum and both parts.",
            figure.svg("milliseconds for one query alone, median and 95th percentile, embedding and search"),
        )


def _bars(axes: Any, at: int, cell: Result) -> None:
    cost = cell.cost
    heading: dict[str, Any] = {"xytext": (2, 3), "textcoords": "offset points", "fontsize": 10, "fontweight": "bold"}
    axes.annotate(cut(cell.name, 70), (0, at - _BAR), **heading)
    both = (("p50", cost.alone_embed_p50, cost.alone_search_p50), ("p95", cost.alone_embed_p95, cost.alone_search_p95))
    for side, (name, embed, search) in zip((-1, 1), both, strict=True):
        place = at + side * _BAR / 2
        if embed is None or search is None:
            axes.annotate(f"{name} not measured", (0, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
            continue
        axes.barh(place, 1000 * embed, _BAR * 0.9, color=HUES[0])
        axes.barh(place, 1000 * search, _BAR * 0.9, left=1000 * embed, color=HUES[1])
        total = 1000 * (embed + search)
        text = f"{name} {total:.3g} ms = {1000 * embed:.3g} + {1000 * search:.3g}"
        axes.annotate(text, (total, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)


def _short(result: Result) -> str:
    return f"{result.dim} {result.way}".rstrip()


def _floors(axes: Any, board: Leaderboard, *, named: bool) -> None:
    for result in board.results:
        if result.floor:
            mean = result.mean(board.headline)
            axes.axhline(mean, color=INK, linestyle=(0, (4, 4)), linewidth=1, alpha=0.7)
            if named:
                at = {"xycoords": ("axes fraction", "data"), "xytext": (4, -3), "textcoords": "offset points"}
                axes.annotate(result.spec, (1, mean), **at)


def _quality_axis(axes: Any, label: str) -> None:
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _cost_axis(axes: Any, values: Sequence[float]) -> None:
    """Powers of ten, with room for labels at the right; a price of nothing stands at the left end."""
    from matplotlib import ticker

    above = [value for value in values if value > 0] or [1.0]
    low, high = min(above), max(above)
    if min(values) <= 0:
        axes.set_xscale("symlog", linthresh=low)
        axes.set_xlim(-low / 2, high * 4)
    else:
        axes.set_xscale("log")
        room = 1.5 * (high / low) ** 0.15
        axes.set_xlim(low / room, high * room)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1,) if high / low > 8 else (1, 2, 5), numticks=6))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.minorticks_off()
