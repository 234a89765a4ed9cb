"""The gate: it finds out whether retrieval got worse than a saved baseline by more than chance explains.

A baseline is a small JSON file that is meant to be committed and reviewed. It holds, for one or more cells, every query's
scores and first documents, and what data they were measured on.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from harness import stats
from harness.errors import HarnessError, OptionError, nearest
from harness.metrics import Floats, Measure
from harness.result import Leaderboard, Result, whole_or_nothing
from harness.slices import BM25, of_others

SCHEMA = 1
ALL, EACH = "all", "each"
KEPT = 10
"""How many documents of each ranking a baseline keeps, and how many fallen queries are named."""


class CannotCompareError(HarnessError):
    """The new run and the baseline cannot be compared; never taken for a pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a drop of a measure's mean is a regression: larger than ``allowed`` and significant, or larger than ``hard``.

    ``slice`` is ``all`` queries, ``each`` slice for itself (adjusted for their number after Holm), or one by name, as
    ``kind: code``. ``level`` is one minus the share of false alarms this rule may raise when nothing has changed.
    """

    metric: str
    slice: str = ALL
    allowed: float = 0.01
    hard: float = 0.10
    level: float = 0.96


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule says of one cell and slice; ``p`` is one-sided, and adjusted where the rule covers several slices."""

    cell: str
    metric: str
    slice: str
    queries: int
    before: float
    now: float
    p: float
    allowed: float
    hard: float
    level: float

    @property
    def change(self) -> float:
        """How much the mean rose; below 0 it fell."""
        return self.now - self.before

    @property
    def regressed(self) -> bool:
        """Whether the rule is broken."""
        return (-self.change > self.allowed and self.p < 1 - self.level) or -self.change > self.hard


@dataclass(frozen=True, slots=True)
class Fallen:
    """A query whose score fell, with the first documents found before and now."""

    cell: str
    query: str
    text: str
    before: float
    now: float
    found_before: tuple[str, ...]
    found_now: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check: every rule on every cell, the queries that fell most, and what must be said beside it."""

    dataset: str
    outcomes: tuple[Outcome, ...]
    fallen: tuple[Fallen, ...]
    notes: tuple[str, ...]

    @property
    def regressed(self) -> bool:
        """Whether any rule is broken."""
        return any(outcome.regressed for outcome in self.outcomes)


def default_rules(headline: str) -> tuple[Rule, ...]:
    """All queries at 4 % false alarms and the slices together at 1 %: at most 5 % when nothing has changed."""
    return (Rule(metric=headline), Rule(metric=headline, slice=EACH, allowed=0.02, hard=0.30, level=0.99))


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read the ``[[rule]]`` tables of a settings file; raises OptionError for unknown keys and impossible values."""
    known = [f.name for f in fields(Rule)]
    rules = []
    for number, table in enumerate(_tables(path), start=1):
        where = f"{path}: [[rule]] number {number}"
        for key, value in table.items():
            if key not in known:
                raise OptionError(f"{where}: unknown key {key!r}; known: {', '.join(known)}{nearest(key, known)}")
            wanted = (str,) if key in ("metric", "slice") else (int, float)
            if not isinstance(value, wanted) or isinstance(value, bool):
                raise OptionError(f"{where}: {key} = {value!r} should be a {wanted[-1].__name__}")
        if "metric" not in table:
            raise OptionError(f"{where}: metric is missing, as in metric = 'ndcg@10'")
        rule = Rule(**{**table, "metric": str(Measure.parse(table["metric"]))})
        if not (0 <= rule.allowed <= rule.hard <= 1 and 0.5 <= rule.level < 1):
            raise OptionError(f"{where}: needs 0 <= allowed <= hard <= 1 and 0.5 <= level < 1")
        rules.append(rule)
    return tuple(rules)


def _tables(path: Path) -> list[dict[str, Any]]:
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"{path}: cannot be read as TOML: {error}") from error
    several = {name for name, value in settings.items() if isinstance(value, list) and all(isinstance(one, dict) for one in value)}
    for name in several - {"rule"}:
        raise OptionError(f"{path}: [[{name}]] is unknown; write the rules of the gate as [[rule]]")
    if "rule" in settings and "rule" not in several:
        raise OptionError(f"{path}: rule = {settings['rule']!r} should be tables, each written [[rule]]")
    rules: list[dict[str, Any]] = settings.get("rule", [])
    return rules


def save_baseline(board: Leaderboard, path: Path, cells: Sequence[str] = ()) -> list[str]:
    """Write the named cells (``model @ dim``; by default the best model's best) as a baseline; returns their names."""
    chosen = [_cell(board, name) for name in cells] or [r for r in board.results if not r.floor][:1]
    if not chosen:
        raise CannotCompareError("no embedding model was measured, so there is nothing to save")
    baseline = {
        "schema": SCHEMA,
        "dataset": board.dataset["name"],
        "split": board.dataset["split"],
        "fingerprint": board.dataset["fingerprint"],
        "slices": {
            by: {value: list(ids) for value, ids in values.items()}
            for by, values in board.slices.items()
            if by != BM25 and not of_others(by, {result.spec for result in chosen})
        },
        "queries": dict(board.queries),
        "cells": [
            {
                "cell": result.name,
                "model": dict(result.model),
                "index": result.index,
                "precision": result.precision,
                "scores": {
                    measure: {query: round(float(score), 6) for query, score in zip(result.query_ids, values, strict=True)}
                    for measure, values in result.scores.items()
                },
                "found": {query: list(ids[:KEPT]) for query, ids in zip(result.query_ids, result.documents, strict=True)},
            }
            for result in chosen
        ],
    }
    with whole_or_nothing(path) as half:
        half.write_text(json.dumps(baseline, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [result.name for result in chosen]


def check(board: Leaderboard, path: Path, rules: Sequence[Rule] = (), cell: str | None = None) -> Report:
    """Hold a new leaderboard against the baseline at ``path``.

    Every cell of the baseline is compared with the cell of the same name, or, where the baseline has just one, with
    ``cell``. Raises CannotCompareError when the data differ in what was judged, a cell, query, slice or measure is missing, or the
    baseline cannot be read.
    """
    baseline = _read(path)
    notes = _check_data(board, baseline, path)
    if cell is not None and len(baseline["cells"]) != 1:
        raise CannotCompareError(f"{path}: holds {len(baseline['cells'])} cells, but --cell {cell!r} can stand for one only")
    outcomes: list[Outcome] = []
    fallen: list[Fallen] = []
    rules = rules or default_rules(board.headline)
    for saved in baseline["cells"]:
        result = _cell(board, cell or saved["cell"])
        if result.name != saved["cell"]:
            notes.append(f"{result.name} is compared with {saved['cell']}")
        for rule in rules:
            outcomes += apply(rule, saved, result, baseline["slices"])
        fallen += _fallen(saved, result, rules[0].metric, baseline["queries"])
    fallen.sort(key=lambda one: (one.now - one.before, one.query))
    return Report(board.dataset["name"], tuple(outcomes), tuple(fallen[:KEPT]), tuple(notes))


def _read(path: Path) -> dict[str, Any]:
    try:
        baseline: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if baseline["schema"] != SCHEMA:
            raise CannotCompareError(f"{path}: schema {baseline['schema']}, this bakeoff reads {SCHEMA}; save the baseline again")
        if not baseline["cells"] or not all(cell["scores"] and cell["found"] and cell["cell"] for cell in baseline["cells"]):
            raise CannotCompareError(f"{path}: holds no scores; save the baseline again")
        baseline["fingerprint"], baseline["slices"], baseline["queries"], baseline["dataset"]
    except FileNotFoundError as error:
        raise CannotCompareError(f"{path}: not a readable baseline, there is no such file; bakeoff baseline save makes one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotCompareError(f"{path}: not a readable baseline ({error!r}); bakeoff baseline save makes one") from error
    return baseline


def _check_data(board: Leaderboard, baseline: Mapping[str, Any], path: Path) -> list[str]:
    """Raise where the judged part of the data differs; return a note where only documents that nobody judged do."""
    now, before = board.dataset["fingerprint"], baseline["fingerprint"]
    differ = [part for part in now if now[part] != before.get(part)]
    if hard := [part for part in differ if part != "documents"]:
        raise CannotCompareError(
            f"{path}: was saved on other data, {baseline['dataset']!r}: {', '.join(hard)} differ from those of {board.dataset['name']!r}; "
            "if the change is meant, review it and save the baseline again"
        )
    return ["documents were added, removed or changed, but none that is judged: the comparison stands"] if differ else []


def _cell(board: Leaderboard, name: str) -> Result:
    names = {result.name: result for result in board.results}
    if name not in names:
        failed = {absence.spec: absence.reason for absence in board.absences}
        why = next((f"; {spec}: {reason}" for spec, reason in failed.items() if name.startswith(spec)), "")
        known = ", ".join(repr(known) for known in names)
        raise CannotCompareError(f"the new run has no result for {name!r}{why}; it has {known}; --cell says which one to compare")
    return names[name]


def apply(rule: Rule, saved: Mapping[str, Any], result: Result, slices: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Outcome]:
    """Apply one rule to one saved cell and its new result; one outcome a slice. Raises CannotCompareError."""
    if rule.metric not in saved["scores"] or rule.metric not in result.scores:
        has = sorted(set(saved["scores"]) & set(result.scores))
        raise CannotCompareError(f"{rule.metric} was not measured in both runs of {saved['cell']}; in both: {', '.join(has) or 'none'}")
    named = {f"{by}: {value}": list(ids) for by, values in slices.items() for value, ids in values.items()}
    if rule.slice == ALL:
        wanted = {ALL: list(saved["scores"][rule.metric])}
    elif rule.slice == EACH:
        wanted = {name: ids for name, ids in named.items() if len(ids) >= stats.FEWEST_IN_SLICE}
    elif rule.slice in named:
        wanted = {rule.slice: named[rule.slice]}
    else:
        known = ", ".join(named) or "none"
        raise CannotCompareError(f"slice {rule.slice!r} is not in the baseline; it has {known}{nearest(rule.slice, named)}")
    pairs = {name: _pair(saved["scores"][rule.metric], result, rule.metric, ids) for name, ids in wanted.items()}
    p = stats.holm(np.array([stats.one_sided(before - now) for before, now in pairs.values()]))
    return [
        Outcome(
            result.name,
            rule.metric,
            name,
            len(now),
            float(before.mean()),
            float(now.mean()),
            float(chance),
            rule.allowed,
            rule.hard,
            rule.level,
        )
        for (name, (before, now)), chance in zip(pairs.items(), p, strict=True)
    ]


def _pair(saved: Mapping[str, float], result: Result, metric: str, queries: Sequence[str]) -> tuple[Floats, Floats]:
    now = dict(zip(result.query_ids, result.scores[metric], strict=True))
    if missing := [query for query in queries if query not in now or query not in saved]:
        raise CannotCompareError(f"{len(missing)} of {len(queries)} queries are missing in one of the runs, the first is {missing[0]!r}")
    return np.array([saved[query] for query in queries]), np.array([round(float(now[query]), 6) for query in queries])


def _fallen(saved: Mapping[str, Any], result: Result, metric: str, texts: Mapping[str, str]) -> list[Fallen]:
    place = {query: row for row, query in enumerate(result.query_ids)}
    found = []
    for query, before in saved["scores"][metric].items():
        now = round(float(result.scores[metric][place[query]]), 6)
        if now < before:
            ids = tuple(str(document) for document in result.documents[place[query]][:KEPT])
            found.append(Fallen(result.name, query, texts.get(query, ""), before, now, tuple(saved["found"][query]), ids))
    return found
