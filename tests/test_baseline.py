"""The file of a baseline: what is kept, and that no damage to it is ever taken for a pass."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from boards import METRIC, cell, leaderboard, written
from click.testing import CliRunner

from harness.baseline import CannotCompareError, read, save_baseline
from harness.check import check
from harness.cli import main
from harness.errors import OptionError
from harness.result import Leaderboard

IDS = tuple(f"q{row}" for row in range(24))
NAME = "st/a @ 64"
GONE = "(gone)"


def made() -> Leaderboard:
    board = leaderboard(cell("st/a", [0.5, 0.75] * 12, provider="st", name="a", revision="1"))
    facts = {"fingerprint": {"documents": "a", "queries": "b", "judgements": "c", "judged": "d"}}
    kinds = {"kind": {"even": IDS[::2], "odd": IDS[1::2]}}
    return replace(board, dataset=board.dataset | facts, queries={query: f"text of {query}" for query in IDS}, slices=kinds)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_baseline(made(), tmp_path / "b.json")
    return tmp_path / "b.json"


def nodes(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every value in parsed JSON."""
    yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from nodes(value, (*at, key))


def with_other(data: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A copy of parsed JSON with another value at a path, or none."""
    if not at:
        return new
    data = copy.deepcopy(data)
    above = data
    for key in at[:-1]:
        above = above[key]
    if new is GONE:
        del above[at[-1]]
    else:
        above[at[-1]] = new
    return data


@pytest.mark.parametrize("new", [GONE, None, [], {}, "x", -1, True, float("nan"), 1e300], ids=repr)
def test_a_damaged_baseline_is_no_pass(file: Path, new: Any) -> None:
    good = json.loads(file.read_text())
    whole, board = check(made(), file).outcomes[0], made()
    passed = set()
    for at in nodes(good):
        if not at and new is GONE:
            continue
        file.write_text(json.dumps(with_other(good, at, new)))
        try:
            report = check(board, file)
        except CannotCompareError:
            continue
        assert report.outcomes[0] == whole, at
        passed.add({"cells": at[2:3], "fingerprint": at[1:2]}.get(at[0], at[:1]))
    known = {(name,) for name in ("dataset", "split", "slices", "queries", "model", "index", "precision", "found", "documents")}
    assert passed <= known  # what no score rests on


CellChange = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b["cells"][0]["scores"][METRIC].update(q3=None), r"Expected `float`, got `null`"),
        (lambda b: b["cells"][0]["scores"][METRIC].update(q3="0.5"), r"Expected `float`, got `str`"),
        (lambda b: b["cells"][0]["scores"][METRIC].update(q3=float("nan")), "not a readable baseline"),
        (lambda b: b["cells"][0]["scores"][METRIC].update(q3=-0.5), "Expected `float` >= 0"),
        (lambda b: b["cells"][0]["scores"].update({METRIC: {}}), rf"'{METRIC}' of '{NAME}' is not of the same queries .* 24 are"),
        (lambda b: b["cells"][0]["scores"].update({"mrr@10": {"q0": 0.5}}), "'mrr@10' of .* 23 are in one only"),
        (lambda b: b["cells"][0]["found"].pop("q3"), rf"'found' of '{NAME}' .* 1 are in one only, as 'q3' is"),
        (lambda b: b["queries"].pop("q3"), "'found' of .* as 'q3' is"),
        (lambda b: b.update(slices=[]), r"Expected `object`, got `array` - at `\$.slices`"),
        (lambda b: b["slices"]["kind"]["even"].append("q99"), "slice 'kind: even' names a query twice, or one that is not"),
        (lambda b: b["slices"]["kind"].update(even=["q0"] * 10), "slice 'kind: even' names a query twice"),
        (lambda b: b.update(fingerprint=None), r"Expected `object`, got `null`"),
        (lambda b: b.update(fingerprint={}), "was saved on other data"),
        (lambda b: b["fingerprint"].update(more="x"), "more differ"),
        (lambda b: b.update(cells=[]), "holds no scores; save the baseline again"),
        (lambda b: b["cells"][0].update(scores={}), "holds no scores"),
        (lambda b: b.update(schema=9, cells=None), "schema 9, this bakeoff reads 1; save the baseline again"),
    ],
)
def test_what_is_wrong_with_a_baseline_is_said(file: Path, change: CellChange, said: str) -> None:
    baseline = json.loads(file.read_text())
    change(baseline)
    file.write_text(json.dumps(baseline))
    with pytest.raises(CannotCompareError, match=said):
        check(made(), file)


def test_a_baseline_cut_to_one_query_is_no_pass(file: Path) -> None:
    baseline = json.loads(file.read_text())
    for part in (baseline, baseline["cells"][0], baseline["cells"][0]["scores"]):
        for name in {"queries", "found", METRIC} & part.keys():
            part[name] = {"q5": part[name]["q5"]}
    file.write_text(json.dumps(baseline | {"slices": {}}))
    with pytest.raises(CannotCompareError, match="23 of 24 queries are missing in one of the runs, the first is 'q0'"):
        check(made(), file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\xfe", b'{"schema": 1, "cells": ' + b"[" * 100_000])
def test_what_is_no_baseline_is_no_pass(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(CannotCompareError, match=r"b.json: not a readable baseline \(.*bakeoff baseline save makes one"):
        check(made(), tmp_path / "b.json")
    with pytest.raises(CannotCompareError, match="there is no such file"):
        check(made(), tmp_path / "none.json")
    with pytest.raises(CannotCompareError, match="Is a directory"):
        check(made(), tmp_path)


def test_half_a_surrogate_pair_in_a_query_keeps_nobody_from_saving(tmp_path: Path) -> None:
    save_baseline(replace(made(), queries=dict.fromkeys(IDS, "half \ud800 a sign")), tmp_path / "b.json")
    assert read(tmp_path / "b.json").queries["q0"] == "half ? a sign"


def test_without_a_name_the_best_plain_cell_is_saved(tmp_path: Path) -> None:
    board = made()
    plain = next(one for one in board.results if not one.floor)
    better = replace(plain, identity="8", precision="int8")
    assert save_baseline(replace(board, results=(better, *board.results)), tmp_path / "b.json") == [plain.name]


def test_a_baseline_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match=r"b.json: cannot be written \(.*name another file"):
        save_baseline(made(), tmp_path / "file" / "b.json")


def test_a_baseline_keeps_the_slices_of_its_own_cells_only(tmp_path: Path) -> None:
    half = {"yes": IDS[:6], "no": IDS[6:]}
    slices = {f"answer cut by {spec}": half for spec in ("st/a", "st/another")} | {"BM25": half, "kind": half}
    save_baseline(replace(made(), slices=slices), tmp_path / "b.json")
    assert set(read(tmp_path / "b.json").slices) == {"answer cut by st/a", "kind"}


@pytest.mark.parametrize(
    "at", [("dataset",), ("dataset", "name"), ("dataset", "fingerprint"), ("headline",), ("slices",), ("slices", "kind")]
)
@pytest.mark.parametrize("new", [GONE, None, [], -1], ids=repr)
def test_a_damaged_leaderboard_is_exit_code_2(file: Path, at: tuple[str, ...], new: Any) -> None:
    """1 would say that retrieval got worse."""
    folder = written(made(), file.parent / "out")
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(with_other(summary, at, new)))
    done = CliRunner().invoke(main, ["check", str(folder), "--baseline", str(file)])
    if (at, new) == (("slices", "kind"), GONE):
        assert done.exit_code == 0
    else:
        assert (done.exit_code, done.stdout) == (2, "")
        assert "not a readable leaderboard" in done.stderr
