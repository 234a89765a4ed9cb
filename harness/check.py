"""The gate: it finds out whether retrieval got worse than a saved baseline by more than chance explains."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from harness import stats
from harness.baseline import KEPT, Baseline, CannotCompareError, Saved, find_cell, read
from harness.errors import OptionError, nearest
from harness.metrics import Measure
from harness.result import Leaderboard, Result

ALL, EACH = "all", "each"
NAMED = 10
"""How many fallen queries are named."""
_WATCHED = ("revision", "query_prompt", "document_prompt", "pooling", "max_tokens")
"""What of a model is noted when it is no longer as it was saved."""
Slices = Mapping[str, Mapping[str, Sequence[str]]]


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
    """A query of ``slice`` whose score by ``metric`` fell, with the first documents found before and now."""

    cell: str
    metric: str
    slice: str
    query: str
    text: str
    before: float
    now: float
    found_before: tuple[str, ...]
    found_now: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check: every rule on every cell, the queries that fell most, and what must be said beside it.

    The fallen queries are those of the first rule that each cell breaks; where none is broken, of all queries by the first rule's metric.
    """

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


def rules_in_force(rules: Path | None, settings: Path | None) -> tuple[Rule, ...]:
    """The rules of the file ``rules``, else those of the settings file, else none; raises OptionError as :func:`read_rules` does."""
    source = rules or settings
    chosen = read_rules(source) if source else ()
    if rules and not chosen:
        raise OptionError(f"{rules}: holds no rule; write them as [[rule]] tables")
    return chosen


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


def check(board: Leaderboard, path: Path, rules: Sequence[Rule] = (), cell: str | None = None) -> Report:
    """Hold a new leaderboard against the baseline at ``path``.

    Every cell of the baseline is compared with the cell of the same name, or, where the baseline has just one, with
    ``cell``. Raises CannotCompareError when the data differ in what was judged, a cell, query, slice or measure is missing, the
    rules cover no query, or the baseline cannot be read.
    """
    baseline = read(path)
    notes = _check_data(board, baseline, path)
    if cell is not None and len(baseline.cells) != 1:
        raise CannotCompareError(f"{path}: holds {len(baseline.cells)} cells, but --cell {cell!r} can stand for one only")
    rules = rules or default_rules(board.headline)
    pairs = [(saved, find_cell(board, cell or saved.cell)) for saved in baseline.cells]
    outcomes = [outcome for saved, result in pairs for rule in rules for outcome in apply(rule, saved, result, baseline.slices)]
    if not outcomes:
        raise CannotCompareError(
            f"{path}: no slice has {stats.FEWEST_IN_SLICE} queries or more, so rules for {EACH!r} slice alone check nothing; "
            f"add a rule for {ALL!r} queries"
        )
    for saved, result in pairs:
        notes += _changes(saved, result)
    fallen = _fallen(pairs, outcomes, rules[0].metric, baseline)
    return Report(board.dataset["name"], tuple(outcomes), fallen, tuple(dict.fromkeys(notes)))


def _check_data(board: Leaderboard, baseline: Baseline, path: Path) -> list[str]:
    """Raise where the judged part of the data differs; return a note where only documents that nobody judged do."""
    now, before = board.dataset["fingerprint"], baseline.fingerprint
    differ = [part for part in {**now, **before} if now.get(part) != before.get(part)]
    if hard := [part for part in differ if part != "documents"]:
        raise CannotCompareError(
            f"{path}: was saved on other data, {baseline.dataset!r}: {', '.join(hard)} differ from those of {board.dataset['name']!r}; "
            "if the change is meant, review it and save the baseline again"
        )
    return ["documents were added, removed or changed, but none that is judged: the comparison stands"] if differ else []


def _changes(saved: Saved, result: Result) -> list[str]:
    """Notes on what is no longer as it was saved: another cell, or of the same cell's model what makes its vectors."""
    notes = [] if result.name == saved.cell else [f"{result.name} is compared with {saved.cell}"]
    pairs: list[tuple[str, object, object]] = [("index", saved.index, result.index), ("precision", saved.precision, result.precision)]
    if all(saved.model.get(name) == result.model.get(name) for name in ("provider", "name")):  # of another model all of it differs
        pairs += [(name.replace("_", " "), saved.model.get(name), result.model.get(name)) for name in _WATCHED]
    return notes + [f"{result.spec}: {name} {_shown(before)} -> {_shown(now)}" for name, before, now in pairs if before != now]


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if text and " " not in text else repr(text)  # a prompt's last blank matters


def apply(rule: Rule, saved: Saved, result: Result, slices: Slices) -> list[Outcome]:
    """Apply one rule to one saved cell and its new result; one outcome a slice. Raises CannotCompareError."""
    before, now = _scores(rule.metric, saved, result)
    rows = {
        name: (np.array([before[query] for query in ids]), np.array([now[query] for query in ids]))
        for name, ids in _covered(rule, list(before), _named(slices)).items()
    }
    p = stats.holm(np.array([stats.one_sided(old - new) for old, new in rows.values()]))
    return [
        Outcome(
            result.name,
            rule.metric,
            name,
            len(new),
            float(old.mean()),
            float(new.mean()),
            float(chance),
            rule.allowed,
            rule.hard,
            rule.level,
        )
        for (name, (old, new)), chance in zip(rows.items(), p, strict=True)
    ]


def _covered(rule: Rule, everything: Sequence[str], named: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """The slices that a rule is about -> their query ids; raises CannotCompareError for one that is not there or too small."""
    if rule.slice == ALL:
        return {ALL: everything}
    if rule.slice == EACH:
        return {name: ids for name, ids in named.items() if len(ids) >= stats.FEWEST_IN_SLICE}
    if rule.slice not in named:
        known = ", ".join(map(repr, named)) or "none"
        raise CannotCompareError(f"slice {rule.slice!r} is not in the baseline; it has {known}{nearest(rule.slice, named)}")
    if len(named[rule.slice]) < stats.FEWEST_IN_SLICE:
        raise CannotCompareError(
            f"slice {rule.slice!r} has {len(named[rule.slice])} queries, and fewer than {stats.FEWEST_IN_SLICE} are held to no rule; "
            f"give it more queries, or write a rule for {ALL!r}"
        )
    return {rule.slice: named[rule.slice]}


def _named(slices: Slices) -> dict[str, Sequence[str]]:
    return {f"{by}: {value}": ids for by, values in slices.items() for value, ids in values.items()}


def _scores(metric: str, saved: Saved, result: Result) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Query -> score, before and now; raises CannotCompareError where not both runs have a number for each query."""
    if metric not in saved.scores or metric not in result.scores:
        has = sorted(set(saved.scores) & set(result.scores))
        raise CannotCompareError(f"{metric} was not measured in both runs of {saved.cell!r}; in both: {', '.join(has) or 'none'}")
    before = saved.scores[metric]
    now = {query: round(float(score), 6) for query, score in zip(result.query_ids, result.scores[metric], strict=True)}
    if odd := sorted(before.keys() ^ now.keys()):
        total = len(before.keys() | now.keys())
        raise CannotCompareError(f"{len(odd)} of {total} queries are missing in one of the runs, the first is {odd[0]!r}")
    if wrong := [query for query, score in now.items() if not math.isfinite(score)]:
        raise CannotCompareError(f"{metric} of {result.name!r} is no number for {len(wrong)} queries, as {wrong[0]!r}; evaluate it again")
    return before, now


def _fallen(pairs: Sequence[tuple[Saved, Result]], outcomes: Sequence[Outcome], metric: str, baseline: Baseline) -> tuple[Fallen, ...]:
    """The queries that fell most; ``metric`` counts where no rule is broken."""
    broken = {one.cell: (one.metric, one.slice) for one in reversed(outcomes) if one.regressed}  # the first of each cell stays
    found: list[Fallen] = []
    for saved, result in pairs:
        if not broken or result.name in broken:
            by, slice_ = broken.get(result.name, (metric, ALL))
            found += _fallen_in(slice_, _named(baseline.slices).get(slice_, ()), by, saved, result, baseline.queries)
    return tuple(sorted(found, key=lambda one: (one.now - one.before, one.query))[:NAMED])


def _fallen_in(slice_: str, ids: Sequence[str], metric: str, saved: Saved, result: Result, texts: Mapping[str, str]) -> list[Fallen]:
    before, now = _scores(metric, saved, result)
    found = dict(zip(result.query_ids, result.documents, strict=True))
    return [
        Fallen(
            cell=result.name,
            metric=metric,
            slice=slice_,
            query=query,
            text=texts[query],
            before=before[query],
            now=now[query],
            found_before=saved.found[query],
            found_now=tuple(map(str, found[query][:KEPT])),
        )
        for query in (before if slice_ == ALL else ids)
        if now[query] < before[query]
    ]
