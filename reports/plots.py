"""Plots as inline SVG: the same bytes for the same numbers, and readable on a light and a dark page."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

from harness.result import Leaderboard, Result

_INK = "#0a0b0c"  # stands for the page's own text colour
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito, safe for colour-blind readers
_MARKERS = "osD^vP"


def by_dimension(board: Leaderboard) -> str:
    """The headline measure against the dimension, a line per model and a dashed line per floor; "" without vectors."""
    lines: dict[str, list[Result]] = {}
    for result in board.results:
        if result.dim:
            lines.setdefault(result.spec, []).append(result)
    if not lines:
        return ""
    floors = {result.spec: result.mean(board.headline) for result in board.results if result.floor}
    return _draw(lines, floors, board.headline)


def _draw(lines: Mapping[str, Sequence[Result]], floors: Mapping[str, float], headline: str) -> str:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"svg.hashsalt": "bakeoff", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK)
    with matplotlib.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
        dims = sorted({result.dim for results in lines.values() for result in results})
        for at, (spec, results) in enumerate(lines.items()):
            points = sorted(results, key=lambda result: result.dim)
            colour, marker = _COLOURS[at % len(_COLOURS)], _MARKERS[at // len(_COLOURS) % len(_MARKERS)]
            means = [result.mean(headline) for result in points]
            axes.plot([result.dim for result in points], means, color=colour, marker=marker, label=spec, linewidth=2)
            untrained = [(result.dim, mean) for result, mean in zip(points, means, strict=True) if not result.trained]
            axes.plot(*zip(*untrained, strict=True) if untrained else ([], []), marker, color=colour, markerfacecolor="white")
        for spec, mean in floors.items():
            axes.axhline(mean, color=_INK, linestyle=(0, (4, 4)), linewidth=1)
            axes.annotate(spec, (1, mean), xycoords=("axes fraction", "data"), xytext=(4, -3), textcoords="offset points")
        axes.set_xscale("log", base=2)
        axes.set_xticks(dims, labels=[str(dim) for dim in dims])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("dimensions kept (hollow: not trained for this)")
        axes.set_ylabel(headline)
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=min(2, len(lines)), frameon=False)
        return _svg(figure, f"{headline} by dimension, one line per model")


def _svg(figure: object, label: str) -> str:
    from markupsafe import escape
    from matplotlib import pyplot

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})  # type: ignore[attr-defined]
    pyplot.close(figure)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL).replace(_INK, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
