"""What ``bakeoff senses`` found, as a table for the terminal, a page to look at and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.senses import TEXT, Auc, Layer, Quality, Senses, Study
from reports.embed import template
from reports.figure import INK, Figure, Plot, cut, look
from reports.table import NOTHING

PAGE, DATA = "senses.html", "senses.json"
CHANCE = 0.5
_DRAWN = 6  # models whose occurrences of a word are drawn
_SHAPES = "os^DvPX"
_LANGUAGES = {"en": "English", "de": "German", "es": "Spanish", "fr": "French", "ru": "Russian", "zh": "Chinese"}


def write(found: Senses, folder: Path) -> dict[str, Path]:
    """Write senses.html and senses.json; returns name -> path. Each file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {PAGE: html(found), DATA: as_json(found)}
    for name, text in texts.items():
        half = folder / f".half-{name}"
        half.write_text(text, encoding="utf-8", errors="replace")
        half.replace(folder / name)
    return {name: folder / name for name in texts}


def headings(found: Senses) -> list[str]:
    """What stands over the rows."""
    return ["model", "layer", "AUC (95 %)", *found.languages, "across words"]


def rows(found: Senses) -> list[list[str]]:
    """A row a model and layer, and one for its vector of the whole sentence; the model is named in the first."""
    return [
        [study.spec if not at else "", layer.name, *_figures(found, layer)]
        for study in found.studies
        for at, layer in enumerate((*study.layers, study.text))
    ]


def _figures(found: Senses, layer: Layer) -> list[str]:
    return [interval(layer.overall), *(number(layer.languages[one].value) for one in found.languages), number(layer.across.value)]


def number(value: float) -> str:
    """Three decimals, or a dash for what could not be computed."""
    return NOTHING if math.isnan(value) else f"{value:.3f}"


def interval(area: Auc) -> str:
    """An AUC with its interval, marked ``~`` where that rests on few words."""
    return NOTHING if math.isnan(area.value) else f"{area.value:.3f} ({area.low:.2f}–{area.high:.2f}){'~' if area.rough else ''}"


def sentences(found: Senses) -> list[str]:
    """What to read off: who tells senses apart, who cannot, and whether ranking quality is in the same order."""
    told = []
    contextual = sorted((one for one in found.studies if not one.static), key=lambda one: -one.layers[-1].overall.value)
    if contextual:
        layer = contextual[0].layers[-1]
        last = layer.overall
        told.append(
            f"What comes out of the last layer of {contextual[0].spec} tells the senses of a word apart in {_share(last.value)} of"
            f" comparisons ({_share(last.low)} to {_share(last.high)}); guessing gives 50 %.{_by_language(layer)}"
        )
    if static := [one.spec for one in found.studies if one.static]:
        verb = "gives" if len(static) == 1 else "give"
        told.append(
            f"{' and '.join(static)} {verb} a word the same vector in every sentence, so exactly 50 %: nothing there can tell senses apart."
        )
    measured = [(one, found.quality[one.spec]) for one in found.studies if found.quality and one.spec in found.quality]
    if len(measured) > 1:
        by_sense = [one.spec for one, _ in sorted(measured, key=lambda both: -both[0].layers[-1].overall.value)]
        by_rank = [one.spec for one, _ in sorted(measured, key=lambda both: -both[1].mean)]
        quality = measured[0][1]
        order = "the same order" if by_sense == by_rank else "another order"
        told.append(f"By {quality.measure} on {quality.dataset} they stand in {order}: {', '.join(by_rank)}.")
        blind = [f"{study.spec} reaches {one.mean:.3f} there" for study, one in measured if study.static]
        told.append(
            "Token-level context and retrieval quality are different things"
            + (f": {', '.join(blind)} without any context." if blind else ".")
        )
    return told


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _by_language(layer: Layer) -> str:
    known = sorted((area.value, language) for language, area in layer.languages.items() if not math.isnan(area.value))
    if len(known) < 2:
        return ""
    (lowest, worst), (highest, best) = known[0], known[-1]
    return f" Languages differ: {_share(lowest)} in {_LANGUAGES.get(worst, worst)}, {_share(highest)} in {_LANGUAGES.get(best, best)}."


def html(found: Senses) -> str:
    """The page."""
    return template(PAGE).render(
        found=found,
        told=sentences(found),
        figures=[figure for figure in (by_layer(found), by_word(found)) if figure],
        summary=[_summary(found, study) for study in found.studies],
        measure=next((f"{one.measure} on {one.dataset}" for one in (found.quality or {}).values()), "ranking quality"),
        headings=[_LANGUAGES.get(one, one) for one in found.languages],
        words=len({(pair.language, pair.word) for pair in found.pairs}),
        studies=[{"spec": study.spec, "lines": [_line(found, layer) for layer in (*study.layers, study.text)]} for study in found.studies],
        shown=[
            {"number": at, "before": one.sentence[: one.start], "word": one.sentence[one.start : one.end], "after": one.sentence[one.end :],
             "sense": one.sense}
            for at, one in enumerate(found.shown, start=1)
        ],
        text=TEXT,
    )  # fmt: skip


def _line(found: Senses, layer: Layer) -> dict[str, Any]:
    cells = [layer.languages[one] for one in found.languages]
    heat = [{"text": number(one.value), "shade": _shade(one), "title": interval(one)} for one in cells]
    return {"name": layer.name, "overall": interval(layer.overall), "cells": heat, "across": interval(layer.across)}


def _shade(area: Auc) -> int:
    """How much of the way from chance to perfect, in percent."""
    return 0 if math.isnan(area.value) else max(0, round(100 * (area.value - CHANCE) / (1 - CHANCE)))


def _summary(found: Senses, study: Study) -> dict[str, str]:
    best, quality = study.best, (found.quality or {}).get(study.spec)
    return {
        "spec": study.spec,
        "first": f"{number(study.layers[0].overall.value)} {study.layers[0].name}",
        "best": NOTHING if study.static else f"{number(best.overall.value)} layer {best.name}",
        "last": interval(study.layers[-1].overall),
        "whole": interval(study.text.overall),
        "quality": _quality(quality) if quality else "not measured",
        "cell": quality.cell if quality else "",
    }


def _quality(quality: Quality) -> str:
    return f"{quality.mean:.3f} ({quality.low:.2f}–{quality.high:.2f})"


def by_layer(found: Senses) -> Plot | None:
    """The AUC against the layer, a line a model with its interval, and the line of chance."""
    if not found.studies:
        return None
    with Figure("layers", 8.4, 4.0, [study.spec for study in found.studies]) as figure:
        axes = figure.made.subplots()
        for at, study in enumerate(found.studies):
            _curve(axes, at, study)
        axes.axhline(CHANCE, color=INK, linestyle=(0, (4, 4)), linewidth=1, alpha=0.7)
        axes.annotate("0.5: chance", (1, CHANCE), xycoords=("axes fraction", "data"), xytext=(4, -3), textcoords="offset points")
        deepest = max(len(study.layers) for study in found.studies) - 1
        axes.set_xticks(range(deepest + 1))
        axes.set_xlim(-0.5, deepest + 1)
        axes.set_ylim(top=1.02)
        axes.set_xlabel("layer (0 is what goes in)")
        axes.set_ylabel("AUC, same sense against another")
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend()
        return Plot(
            "Telling senses apart, layer by layer",
            "How often a pair of sentences with the same sense of a word has more similar vectors of that word than a pair with"
            " different senses. The band is the 95 % interval. The hollow point behind a line is the model's vector of the whole"
            " sentence: what a search uses.",
            figure.svg("AUC by layer, one line per model; 0.5 is chance"),
            wide=True,
        )


def _curve(axes: Any, at: int, study: Study) -> None:
    colour, marker = look(at)
    areas, layers = [layer.overall for layer in study.layers], range(len(study.layers))
    axes.plot(layers, [area.value for area in areas], color=colour, marker=marker, linewidth=2)
    axes.fill_between(layers, [area.low for area in areas], [area.high for area in areas], color=colour, alpha=0.13, linewidth=0)
    axes.plot([len(areas) - 1 + 0.35], [study.text.overall.value], marker, color=colour, markerfacecolor="none", markersize=8)


def by_word(found: Senses) -> Plot | None:
    """The shown word's occurrences in a plane, a row a model: the first layer beside the last, both to one scale."""
    studies = found.studies[:_DRAWN]
    if not studies:
        return None
    senses = list(dict.fromkeys(one.sense for one in found.shown))
    with Figure("word", 8.4, 3.4 * len(studies) + 0.3) as figure:
        grid = figure.made.subplots(len(studies), 2, squeeze=False)
        for axes_of_row, study in zip(grid, studies, strict=True):
            reach = max((float(abs(points).max()) for points in study.planes.values()), default=0.0) * 1.2 or 1.0
            planes = list(study.planes.items())
            for axes, (name, points) in zip(axes_of_row, planes, strict=False):
                _map(axes, found, senses, points, reach)
                axes.set_title(f"{cut(study.spec, 44)}\n{_called(name)}", fontsize=10, loc="left")
            for axes in axes_of_row[len(planes) :]:
                axes.set_axis_off()
        _legend(figure, senses)
        figure.unclutter()
        others = f" The first {_DRAWN} models are drawn." if len(found.studies) > _DRAWN else ""
        return Plot(
            f"“{found.word}” in {len(found.shown)} sentences",
            "Each point is the word in one sentence, numbered as in the list below; colour and shape are its sense. Where context does its"
            " work, what was mixed at the left falls into groups at the right. Principal components of the word's unit vectors; both plots"
            f" of a model have one scale.{others}",
            figure.svg(f"occurrences of {found.word} in the first and the last layer, by sense"),
            wide=True,
        )


def _legend(figure: Figure, senses: list[str]) -> None:
    from matplotlib.lines import Line2D

    looks = [_look(at) for at in range(len(senses))]
    handles = [Line2D([], [], color=colour, marker=marker, linestyle="none") for colour, marker in looks]
    figure.made.legend(handles, [cut(sense, 30) for sense in senses], loc="outside lower center", ncols=min(4, len(senses)), frameon=False)


def _map(axes: Any, found: Senses, senses: list[str], points: Any, reach: float) -> None:
    for at, (point, occurrence) in enumerate(zip(points, found.shown, strict=True), start=1):
        colour, marker = _look(senses.index(occurrence.sense))
        axes.plot(*point, marker, color=colour, markersize=7)
        if points.any():
            axes.annotate(str(at), point, xytext=(5, 4), textcoords="offset points", fontsize=9)
    if not points.any():
        axes.annotate(f"all {len(points)} are one point", (0, 0), xytext=(0, 9), textcoords="offset points", fontsize=10, ha="center")
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])


def _look(sense: int) -> tuple[str, str]:
    """Senses differ in colour and in shape, for those who see no colours."""
    return look(sense)[0], _SHAPES[sense % len(_SHAPES)]


def _called(layer: str) -> str:
    return f"layer {layer}" if layer.isdecimal() else {"static": "its only vector"}.get(layer, f"{layer} of the first layer")


def as_json(found: Senses) -> str:
    """Everything but the sentences' own file, for programs; what could not be computed is null."""
    studies = [
        {
            "model": study.spec,
            "layers": [_layer(layer) for layer in study.layers],
            "whole_text": _layer(study.text),
            "planes": {name: points.tolist() for name, points in study.planes.items()},
        }
        for study in found.studies
    ]
    said = {
        "schema": 1,
        "pairs": len(found.pairs),
        "studies": studies,
        "absences": [asdict(absence) for absence in found.absences],
        "quality": {spec: asdict(one) for spec, one in (found.quality or {}).items()},
        "word": found.word,
        "occurrences": [asdict(one) for one in found.shown],
    }
    return json.dumps(said, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "overall": _area(layer.overall),
        "languages": {language: _area(area) for language, area in layer.languages.items()},
        "across_words": _area(layer.across),
    }


def _area(area: Auc) -> dict[str, float | int | None]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(area).items()}
