from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from boards import written
from click.testing import CliRunner
from conftest import make_dataset

import harness
from harness.baseline import CannotCompareError, save_baseline
from harness.check import Rule, check, default_rules, read_rules
from harness.cli import main
from harness.dataset import Dataset, Document, Query
from harness.errors import OptionError
from harness.result import Leaderboard
from reports import gate

QUERIES = 120
Change = Callable[[np.ndarray], np.ndarray]


def corpus(extra: str = "", judged: str = "") -> Dataset:
    """One relevant document a query, two kinds of queries; ``extra`` is a document nobody judged, ``judged`` alters one."""
    data = make_dataset(documents=QUERIES + 20, queries=QUERIES)
    documents = [replace(d, text=d.text + judged) if d.id == "d0" else d for d in data.documents]
    queries = [Query(q.id, q.text, tags={"kind": "even" if row % 2 else "odd"}) for row, q in enumerate(data.queries)]
    qrels = {q.id: {f"d{q.id[1:]}": 1} for q in queries} | {queries[0].id: {f"d{queries[0].id[1:]}": 1, "d0": 1}}
    return Dataset.build("gate", [*documents, Document("new", extra)] if extra else documents, queries, qrels)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    store = tmp_path_factory.mktemp("store")
    return harness.evaluate(corpus(), ["hash/256"], metrics=["ndcg@10", "recall@10"], dims=[256, 64], store_folder=store)


@pytest.fixture
def baseline(board: Leaderboard, tmp_path: Path) -> Path:
    scored = changed(board, lambda scores: np.full(len(scores), 0.6))
    assert save_baseline(scored, tmp_path / "baseline.json") == ["hash/256 @ 256"]
    return tmp_path / "baseline.json"


def changed(board: Leaderboard, change: Change) -> Leaderboard:
    """The board with other nDCG scores in its native cell."""
    results = [
        replace(one, scores={**one.scores, "ndcg@10": change(one.scores["ndcg@10"])}) if one.dim == 256 else one for one in board.results
    ]
    return replace(board, results=tuple(results))


def by(shift: float, noise: float = 0.0, only: slice = slice(None)) -> Change:
    def change(scores: np.ndarray) -> np.ndarray:
        made = np.full(len(scores), 0.6) + np.random.default_rng(5).permutation(np.linspace(-noise, noise, len(scores)))
        made[only] += shift
        return made

    return change


def regressed(board: Leaderboard, baseline: Path, *rules: Rule) -> bool:
    return check(board, baseline, rules).regressed


def test_the_same_run_holds(board: Leaderboard, tmp_path: Path) -> None:
    save_baseline(board, tmp_path / "b.json")
    report = check(board, tmp_path / "b.json")
    assert not report.regressed
    assert {outcome.slice for outcome in report.outcomes} >= {"all", "kind: even", "kind: odd"}
    assert not report.fallen
    assert not report.notes


@pytest.mark.parametrize(
    ("shift", "noise", "broken"),
    [
        (-0.05, 0.2, True),  # larger than allowed, and clear
        (-0.05, 0.6, False),  # larger than allowed, but within what chance does
        (-0.005, 0.0, False),  # on every query, but smaller than allowed
        (-0.11, 1.5, True),  # within what chance does, but larger than may ever be
        (+0.2, 0.1, False),  # better
    ],
)
def test_a_regression_is_large_and_significant_or_very_large(
    board: Leaderboard, baseline: Path, shift: float, noise: float, broken: bool
) -> None:
    assert regressed(changed(board, by(shift, noise)), baseline, Rule(metric="ndcg@10")) == broken


def test_a_slice_that_falls_alone_is_found(board: Leaderboard, baseline: Path) -> None:
    worse = changed(board, by(-0.12, 0.02, only=slice(0, None, 2)))  # half of the queries, -0.06 on all
    loose = Rule(metric="ndcg@10", allowed=0.08)
    assert not regressed(worse, baseline, loose)
    assert regressed(worse, baseline, loose, Rule(metric="ndcg@10", slice="each", allowed=0.08, hard=0.3))
    assert regressed(worse, baseline, Rule(metric="ndcg@10", slice="kind: odd", allowed=0.08))
    assert not regressed(worse, baseline, Rule(metric="ndcg@10", slice="kind: even", allowed=0.08))


def test_the_queries_that_fell_most_are_named_with_what_was_found(board: Leaderboard, baseline: Path) -> None:
    def change(scores: np.ndarray) -> np.ndarray:
        made = np.full(len(scores), 0.6)
        made[:12] = np.linspace(0.0, 0.55, 12)
        return made

    fallen = check(changed(board, change), baseline).fallen
    native = next(one for one in board.results if one.dim == 256)
    assert [one.query for one in fallen] == list(native.query_ids[:10])
    assert fallen[0].before == 0.6
    assert fallen[0].now == 0.0
    assert fallen[0].text == board.queries[fallen[0].query]
    assert fallen[0].found_before == fallen[0].found_now == tuple(native.documents[0][:10])


def test_another_cell_may_take_the_place_and_is_said(board: Leaderboard, baseline: Path) -> None:
    report = check(board, baseline, cell="hash/256 @ 64")
    assert report.notes == ("hash/256 @ 64 is compared with hash/256 @ 256",)
    assert report.outcomes[0].now == pytest.approx(next(r for r in board.results if r.dim == 64).mean("ndcg@10"), abs=1e-6)


def test_documents_nobody_judged_may_change(baseline: Path) -> None:
    fresh = harness.evaluate(corpus(extra="a new page"), ["hash/256"], metrics=["ndcg@10"], dims=[256])
    assert "none that is judged" in check(fresh, baseline).notes[0]


@pytest.mark.parametrize(
    ("data", "part"),
    [(corpus(judged=" rewritten"), "judged"), (make_dataset(QUERIES + 20, QUERIES - 1), "queries")],
)
def test_other_data_cannot_be_compared(baseline: Path, data: Dataset, part: str) -> None:
    fresh = harness.evaluate(data, ["hash/256"], metrics=["ndcg@10"], dims=[256])
    with pytest.raises(CannotCompareError, match=rf"other data.*{part}.* differ"):
        check(fresh, baseline)


def test_a_missing_cell_measure_or_slice_is_no_pass(board: Leaderboard, baseline: Path) -> None:
    without = replace(board, results=tuple(r for r in board.results if r.dim != 256))
    with pytest.raises(CannotCompareError, match=r"no result for 'hash/256 @ 256'; it has .*'hash/256 @ 64'"):
        check(without, baseline)
    failed = replace(without, absences=(harness.result.Absence("hash/256", "failed", "out of memory"),))
    with pytest.raises(CannotCompareError, match="hash/256: out of memory"):
        check(failed, baseline)
    with pytest.raises(CannotCompareError, match=r"mrr@10 was not measured in both runs .* in both: ndcg@10, recall@10"):
        check(board, baseline, [Rule(metric="mrr@10")])
    with pytest.raises(CannotCompareError, match=r"slice 'kind: evn' is not in the baseline.*did you mean 'kind: even'"):
        check(board, baseline, [Rule(metric="ndcg@10", slice="kind: evn")])
    native = next(r for r in board.results if r.dim == 256)
    fewer = replace(native, query_ids=native.query_ids[1:], scores={m: v[1:] for m, v in native.scores.items()})
    with pytest.raises(CannotCompareError, match="1 of 120 queries are missing"):
        check(replace(board, results=(fewer,)), baseline)


def test_rules_are_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "bakeoff.toml"
    file.write_text('[[rule]]\nmetric = "ndcg@10"\nslice = "each"\nallowed = 0.02\nhard = 0.2\nlevel = 0.99\n')
    assert read_rules(file) == (Rule(metric="ndcg@10", slice="each", allowed=0.02, hard=0.2, level=0.99),)
    for text, said in [
        ('metric = "ndcg@10"\nalowed = 0.1', r"unknown key 'alowed'.*did you mean 'allowed'"),
        ("allowed = 0.1", "metric is missing"),
        ('metric = "ndcg@10"\nhard = "much"', "hard = 'much' should be a float"),
        ('metric = "ndcg@10"\nallowed = 0.2', "0 <= allowed <= hard"),
        ('metric = "ndgc@10"', "did you mean 'ndcg'"),
        ("metric = ", "cannot be read as TOML"),
    ]:
        file.write_text(f"[[rule]]\n{text}\n")
        with pytest.raises(OptionError, match=said):
            read_rules(file)
    with pytest.raises(OptionError, match="cannot be read"):
        read_rules(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[check]]\nmetric = "ndcg@10"', r"\[\[check\]\] is unknown; write the rules of the gate as \[\[rule\]\]"),
        ('[[rules]]\nmetric = "ndcg@10"', r"\[\[rules\]\] is unknown"),
        ('[rule]\nmetric = "ndcg@10"', r"should be tables, each written \[\[rule\]\]"),
        ("rule = [1]", r"should be tables, each written \[\[rule\]\]"),
    ],
)
def test_rules_written_otherwise_are_not_passed_over(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bakeoff.toml").write_text(text)
    with pytest.raises(OptionError, match=said):
        read_rules(tmp_path / "bakeoff.toml")


def test_built_in_rules_raise_five_percent_false_alarms_at_most() -> None:
    assert sum(1 - rule.level for rule in default_rules("ndcg@10")) == pytest.approx(0.05)


def test_markdown_junit_and_json_say_the_same(board: Leaderboard, baseline: Path) -> None:
    report = check(changed(board, by(-0.2, 0.1)), baseline)
    assert "REGRESSED | hash/256 @ 256 | ndcg@10 | all | 120 | 0.6000 | 0.4000 | -0.2000" in gate.markdown(report)
    suite = ET.fromstring(gate.junit(report))
    assert suite.get("failures") == str(sum(one.regressed for one in report.outcomes)) != "0"
    assert len(suite.findall("testcase")) == len(report.outcomes)
    written = json.loads(gate.as_json(report))
    assert written["regressed"] is True
    assert written["outcomes"][0]["change"] == pytest.approx(-0.2)
    assert len(written["fallen"]) == 10


def test_the_command_exits_with_0_1_and_2_and_loads_neither_torch_nor_faiss(board: Leaderboard, tmp_path: Path) -> None:
    good, bad = written(changed(board, by(0)), tmp_path / "good"), written(changed(board, by(-0.2)), tmp_path / "bad")
    file, summary = tmp_path / "b.json", tmp_path / "summary.md"
    run = CliRunner().invoke
    assert run(main, ["baseline", "save", str(good), "--to", str(file)]).output == f"{file}: hash/256 @ 256\n"
    assert run(main, ["check", str(good), "--baseline", str(file)]).exit_code == 0
    failed = run(main, ["check", str(bad), "--baseline", str(file), "--markdown", str(summary)])
    assert failed.exit_code == 1
    assert "REGRESSED ndcg@10 on all (120 queries) of hash/256 @ 256: 0.6000 -> 0.4000, -0.2000" in failed.output
    assert failed.output.count("  fell: ") == 10
    assert "has regressed" in summary.read_text()
    missing = run(main, ["check", str(good), "--baseline", str(tmp_path / "none.json")])
    assert (missing.exit_code, missing.stdout) == (2, "")
    code = "import sys; from harness.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "check", str(good), "--baseline", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"torch", "faiss", "transformers", "matplotlib"} & set(done.stderr.split())


def test_rules_that_cover_no_query_are_no_pass(board: Leaderboard, tmp_path: Path) -> None:
    each, few = Rule(metric="ndcg@10", slice="each"), Rule(metric="ndcg@10", slice="kind: few")
    ids = board.results[0].query_ids
    for slices in ({}, {"kind": {"few": ids[:9], "fewer": ids[9:11]}}):
        save_baseline(replace(board, slices=slices), tmp_path / "b.json")
        with pytest.raises(CannotCompareError, match=r"no slice has 10 queries or more, .* add a rule for 'all' queries"):
            check(board, tmp_path / "b.json", [each])
        assert [outcome.slice for outcome in check(board, tmp_path / "b.json").outcomes] == ["all"]
    with pytest.raises(CannotCompareError, match=r"slice 'kind: few' has 9 queries, and fewer than 10 are held to no rule; give it more"):
        check(board, tmp_path / "b.json", [Rule(metric="ndcg@10"), few])
    save_baseline(replace(board, slices={"kind": {"few": ids[:10]}}), tmp_path / "b.json")
    assert [outcome.queries for outcome in check(board, tmp_path / "b.json", [few]).outcomes] == [10]


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_new_score_that_is_no_number_is_no_pass(board: Leaderboard, baseline: Path, score: float) -> None:
    broken = changed(board, lambda scores: np.array([*scores[:-1], score]))
    with pytest.raises(CannotCompareError, match=r"ndcg@10 of 'hash/256 @ 256' is no number for 1 queries, as 'q\d+'; evaluate it again"):
        check(broken, baseline)


def test_the_fallen_queries_are_those_of_the_first_broken_rule(board: Leaderboard, tmp_path: Path) -> None:
    file, rules = tmp_path / "b.json", [Rule(metric="ndcg@10"), Rule(metric="recall@10", slice="kind: odd"), Rule(metric="recall@10")]
    odd = set(board.slices["kind"]["odd"])
    results = [replace(r, scores={m: np.full(QUERIES, 0.6) for m in r.scores}) for r in board.results]
    save_baseline(replace(board, results=tuple(results)), file, ["hash/256 @ 256", "hash/256 @ 64"])
    worse = {
        "ndcg@10": np.array([0.4, *[0.6] * (QUERIES - 1)]),  # one query fell, but no rule is broken
        "recall@10": np.array([0.3 if query in odd else 0.5 for query in board.results[0].query_ids]),
    }
    held_with_a_deep_fall = {m: np.array([0.0, *[0.6] * (QUERIES - 1)]) for m in worse}
    now = replace(board, results=tuple(replace(r, scores=worse if r.dim == 256 else held_with_a_deep_fall) for r in results))
    fallen = check(now, file, rules).fallen
    assert {(one.cell, one.metric, one.slice) for one in fallen} == {("hash/256 @ 256", "recall@10", "kind: odd")}
    assert {one.query for one in fallen} < odd
    assert len(fallen) == 10
    held = check(
        replace(board, results=tuple(replace(r, scores=worse | {"recall@10": r.scores["recall@10"]}) for r in results)), file, rules
    )
    assert not held.regressed
    assert {(one.metric, one.slice, one.now) for one in held.fallen} == {("ndcg@10", "all", 0.4)}


def test_a_model_or_an_index_that_is_no_longer_as_saved_is_noted(board: Leaderboard, tmp_path: Path) -> None:
    save_baseline(board, tmp_path / "b.json", ["hash/256 @ 256"])
    model = {"revision": "def", "query_prompt": "query: ", "pooling": "mean", "max_tokens": 512}
    now = [replace(r, model={**r.model, **model}, index="HNSW", precision="int8") for r in board.results]
    report = check(replace(board, results=tuple(now)), tmp_path / "b.json", cell="hash/256 @ 256 int8 HNSW")
    revision = board.results[0].model["revision"]
    assert not report.regressed
    assert report.notes == (
        "hash/256 @ 256 int8 HNSW is compared with hash/256 @ 256",
        f"hash/256: index {board.results[0].index} -> HNSW",
        "hash/256: precision float32 -> int8",
        f"hash/256: revision {revision} -> def",
        "hash/256: query prompt '' -> 'query: '",
        "hash/256: pooling '' -> mean",
        "hash/256: max tokens none -> 512",
    )


def test_another_model_is_one_note(board: Leaderboard, baseline: Path) -> None:
    other = [replace(r, spec="st/x", model={**r.model, "name": "x", "revision": "def"}) if r.dim == 256 else r for r in board.results]
    report = check(replace(board, results=tuple(other)), baseline, cell="st/x @ 256")
    assert report.notes == ("st/x @ 256 is compared with hash/256 @ 256",)
