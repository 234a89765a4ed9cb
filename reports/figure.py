"""Plots as inline SVG: the same bytes for the same numbers, and readable on a light and a dark page."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

# Stand-ins that matplotlib draws with and the page replaces by its own colours, which differ in the dark.
INK, PAPER, PALE = "#0a0b0c", "#0a0b0d", "#0a0b0e"
HUES = tuple(f"#0a0b1{at}" for at in range(6))
_THEME = {INK: "currentColor", PAPER: "var(--page)", PALE: "var(--pale)"} | {hue: f"var(--hue-{at})" for at, hue in enumerate(HUES)}
_MARKERS = "osD^vP"
_STYLE = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "text.parse_math": False}  # a name may hold a $
_STYLE |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK)


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of the page; ``caption`` says what to read off."""

    title: str
    caption: str
    svg: str  # matplotlib escapes its texts
    wide: bool = False


def look(at: int) -> tuple[str, str]:
    """Colour and marker of the model, or whatever else, at a place."""
    return HUES[at % len(HUES)], _MARKERS[at // len(HUES) % len(_MARKERS)]


def cut(text: str, characters: int) -> str:
    """The end of a text that is longer than so many characters."""
    return text if len(text) <= characters else f"…{text[-characters + 1 :]}"


class Figure:
    """A matplotlib figure in the page's style, closed at the end.

    ``name`` keeps its ids apart from those of other figures, ``models`` make its legend.
    """

    def __init__(self, name: str, width: float, height: float, models: Sequence[str] = ()) -> None:
        self.name, self.models = name, [cut(model, 80) for model in models]
        longest = 0.095 * max(map(len, self.models), default=0) + 0.7  # inches that a name takes, with its marker
        self.columns = max(1, min(len(models), int(width / longest), 3))
        self.size = (width, height + 0.25 * math.ceil(len(models) / self.columns))

    def __enter__(self) -> Self:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        style: dict[str, Any] = _STYLE | {"svg.hashsalt": self.name}
        self.context = matplotlib.rc_context(style)
        self.context.__enter__()
        self.made: Any = pyplot.figure(figsize=self.size, layout="constrained")
        return self

    def __exit__(self, *raised: object) -> None:
        from matplotlib import pyplot

        pyplot.close(self.made)
        self.context.__exit__(None, None, None)

    def legend(self) -> None:
        """A line and a marker for each model, below the axes."""
        from matplotlib.lines import Line2D

        looks = [look(at) for at in range(len(self.models))]
        handles = [Line2D([], [], color=colour, marker=marker, linewidth=2) for colour, marker in looks]
        self.made.legend(handles, self.models, loc="outside lower center", ncols=self.columns, frameon=False)

    def unclutter(self) -> None:
        """Hide labels that would cover an earlier one."""
        self.made.draw_without_rendering()
        for axes in self.made.axes:
            kept: list[Any] = []
            for label in axes.texts:
                box = label.get_window_extent()
                label.set_visible(not any(box.overlaps(other) for other in kept))
                kept += [box] * label.get_visible()

    def svg(self, label: str) -> str:
        """The figure as an element with a name for those who can't see it."""
        from markupsafe import escape

        buffer = io.StringIO()
        self.made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = buffer.getvalue()
        svg = re.sub(r"<(metadata|style\b[^>]*)>.*?</(metadata|style)>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
        svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{self.name}-", svg)
        for stand_in, colour in _THEME.items():
            svg = svg.replace(stand_in, colour)
        return svg.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
