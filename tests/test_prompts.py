"""The prompt check: what it samples, what it flags, what it leaves alone, and what it costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_dataset, png, write_beir
from pages import made

import harness
from harness import catalog, prompts, runner, stats
from harness.cli import main
from harness.dataset import Dataset, Document, Query
from harness.embedder import Embedded, Item, Model, Role, texts
from harness.ledger import Ledger
from harness.metrics import Judgements, Measure, score
from harness.progress import Silent
from harness.prompts import ALPHA, LEAST, Finding, Prompts
from harness.result import Remark
from harness.store import VectorStore
from reports import health

RIGHT = Prompts("query: ", "passage: ")
JUNK = "?query_prompt=" + "%20".join(f"harbour%20ferry%20bell%20number{at}" for at in range(12))


class Trained:
    """Finds answers as a bag of words where both prompts are those it was trained with; each wrong one adds noise. ``calls`` counts texts."""

    batch = 64

    def __init__(self, given: Prompts, calls: list[str], noise: float = 0.8, deaf: bool = False) -> None:
        self.model = Model(provider="test", name="trained", revision="1", dim=64, query_prompt=given.query, document_prompt=given.document)
        self._calls, self._noise, self._deaf = calls, noise, deaf
        self._hash = catalog.load("hash/64")

    def prepare(self) -> None:
        pass

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        self._calls += [f"{role} {text}" for text in texts(items, self.model.prompt(role))]
        vectors = self._hash.embed(items, role).vectors.astype(np.float64)  # type: ignore[union-attr]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if not self._deaf and self.model.prompt(role) != getattr(RIGHT, role):
            seeds = [
                int.from_bytes(hashlib.sha256(f"{self.model.prompt(role)}{item.full}".encode()).digest()[:8], "little") for item in items
            ]
            noise = np.stack([np.random.default_rng(seed).normal(size=64) for seed in seeds])
            vectors += self._noise * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        return Embedded(vectors.astype(np.float32), np.full(len(items), -1))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(VectorStore(tmp_path / "store"), "tiny", None)


@pytest.fixture
def many() -> Dataset:
    return make_dataset(400, 120)


def compared(own: Prompts, data: Dataset, ledger: Ledger, calls: list[str] | None = None, **how: float | bool) -> Finding:
    def make(given: Prompts) -> Trained:
        return Trained(given, [] if calls is None else calls, **how)  # type: ignore[arg-type]

    return prompts.compare("test/trained", make(own), make, prompts.alternatives(own), data, ledger, Silent())


@pytest.mark.parametrize("own", [Prompts(), Prompts(*reversed(RIGHT)), Prompts("search_query: ", "search_document: ")], ids=str)
def test_missing_swapped_and_foreign_prompts_are_flagged_with_the_right_ones(own: Prompts, many: Dataset, ledger: Ledger) -> None:
    found = compared(own, many, ledger)
    assert found.warn
    assert found.best is not None
    assert found.best.prompts == RIGHT
    said = found.sentence()
    assert '"query: " / "passage: "' in said
    assert f"instead of {found.trials[0].mean:.3f}" in said
    assert said.endswith("Try test/trained?query_prompt=query:%20&document_prompt=passage:%20")


def test_the_right_prompts_are_left_alone_and_all_others_are_shown(many: Dataset, ledger: Ledger) -> None:
    found = compared(RIGHT, many, ledger)
    assert not found.warn
    assert "no other prompt is known to be better" in found.sentence()
    labels = {trial.label for trial in found.trials}
    assert {"as configured", "none", "swapped", "query's only", "document's only", "as nomic"} <= labels
    assert found.trials[0].gain is None
    assert all(trial.gain is not None and trial.gain.difference < 0 for trial in found.trials[1:])


def test_a_model_that_prompts_do_nothing_for_is_never_flagged_in_twenty_samples(ledger: Ledger) -> None:
    whole = make_dataset(400, 120, seed=3)
    for seed in range(20):
        part = prompts.sample(whole, 60, 200, seed)
        found = prompts.check("hash/64", catalog.load("hash/64"), part, ledger)
        assert not found.warn, found.sentence()


def test_a_prompt_that_changes_no_vector_does_not_reach_the_model(many: Dataset, ledger: Ledger) -> None:
    found = compared(RIGHT, many, ledger, deaf=True)
    assert found.unheard == ("query", "document")
    assert found.warn
    assert "the configured query_prompt and document_prompt changes no vector: it does not reach the model" in found.sentence()
    assert all(trial.gain and trial.gain.difference == 0 and not trial.better for trial in found.trials[1:])
    assert not compared(Prompts(), many, ledger, deaf=True).warn  # nothing was configured


def gained(gains: np.ndarray, higher: np.ndarray) -> prompts.Trial:
    nothing = np.zeros(len(gains))
    measured = [
        prompts._Measured("own", Prompts(), nothing + 0.5, nothing, ()),
        prompts._Measured("other", Prompts("other"), 0.5 + gains, higher, ()),
    ]
    return prompts._trials(measured)[1]


def test_a_gain_that_is_certain_but_small_is_no_warning_and_a_large_one_is() -> None:
    wobble, certain = np.tile([-1e-3, 1e-3], 100), np.ones(200)
    assert not gained(LEAST - 2e-3 + wobble, certain).better
    assert gained(LEAST + 2e-3 + wobble, certain).better


def test_a_gain_must_be_no_chance_by_the_ranks_and_not_look_like_chance_by_ndcg() -> None:
    noisy, certain = np.tile([0.5, -0.47, 0.02, -0.01], 50), np.ones(200)  # a mean gain of 0.01 that is all noise
    assert not gained(np.full(200, 2 * LEAST), noisy).better
    assert not gained(noisy, certain).better
    assert gained(np.full(200, 2 * LEAST), certain).better


def test_ranks_tell_apart_what_ndcg_at_10_cannot() -> None:
    measured, judged = [], Judgements.build(np.arange(60), np.arange(60), np.ones(60, dtype=np.int32), 60)
    for places in (np.repeat([30, 2, 1], [40, 11, 9]), np.repeat([15, 1, 2], [40, 11, 9])):  # where the relevant documents are ranked
        rows = np.tile(np.arange(1000, 1100), (60, 1))
        rows[np.arange(60), places - 1] = np.arange(60)
        heights = prompts.heights(judged, rows)
        assert heights == pytest.approx(-np.log(places))
        measure = Measure("ndcg", 10)
        measured.append(prompts._Measured("", Prompts(), score(judged, rows, [measure])[measure], heights, ()))
    assert stats.one_sided(measured[1].scores - measured[0].scores) > 0.2
    chance = prompts._trials(measured)[1].p
    assert chance is not None
    assert chance < ALPHA / 10


def test_a_relevant_document_that_was_not_found_counts_as_the_next_rank() -> None:
    judged = Judgements.build(np.array([0, 0, 0, 1]), np.array([3, 4, 5, 3]), np.array([2, 1, 0, 1], dtype=np.int32), 2)
    rows = np.array([[5, 3, 9], [3, 5, 9]])
    assert prompts.heights(judged, rows) == pytest.approx([-(np.log(2) + np.log(4)) / 2, 0.0])


def test_each_prompt_is_paid_for_once(many: Dataset, ledger: Ledger) -> None:
    calls: list[str] = []
    part = prompts.sample(many, 50, 150)
    found = compared(Prompts(), part, ledger, calls)
    given = [trial.prompts for trial in found.trials]
    assert len(calls) == len(set(calls)) == 50 * len({one.query for one in given}) + 150 * len({one.document for one in given})
    calls.clear()
    compared(Prompts(), part, ledger, calls)
    assert not calls
    compared(Prompts("new: "), part, ledger, calls)
    assert {call.split()[0] for call in calls} == {"query", "document"}  # the document of "swapped" is new, the others are not
    assert sum(call.startswith("document") for call in calls) == 150


def test_a_sample_has_all_that_is_judged_what_is_near_and_others_and_is_told_by_its_seed() -> None:
    whole = make_dataset(400, 120)
    part = prompts.sample(whole, 30, 200, seed=5)
    assert (len(part.queries), len(part.documents)) == (30, 200)
    judged = {query.id: set(whole.qrels()[query.id]) for query in part.queries}
    assert {query: set(grades) for query, grades in part.qrels().items()} == judged
    assert all(part.qrels()[query][document] == whole.qrels()[query][document] for query in judged for document in judged[query])
    assert [query.id for query in prompts.sample(whole, 30, 200, seed=5).queries] == [query.id for query in part.queries]
    assert [query.id for query in prompts.sample(whole, 30, 200, seed=6).queries] != [query.id for query in part.queries]
    near = prompts._near(whole, np.arange(3), np.arange(400))
    assert {f"d{query.id[1:]}" for query in whole.queries[:3]} <= {whole.documents[row].id for row in near}
    assert len(near) <= 3 * 10


def test_at_most_ten_judged_documents_of_a_query_are_kept_the_best_graded_first() -> None:
    documents = [Document(f"d{at}", f"word{at}") for at in range(60)]
    data = Dataset.build("many", documents, [Query("q", "word3")], {"q": {f"d{at}": at % 3 for at in range(60)}})
    part = prompts.sample(data, 1, 5)
    assert len(part.documents) == 10
    assert set(part.qrels()["q"].values()) == {2}


def test_a_sample_of_pictures_has_no_words_to_look_near(tmp_path: Path) -> None:
    image = tmp_path / "one.png"
    image.write_bytes(png())
    data = Dataset.build("pictures", [Document(f"d{at}", image=image) for at in range(5)], [Query("q", "a cat")], {"q": {"d1": 1}})
    assert len(prompts.sample(data, 10, 4).documents) == 4


def test_only_queries_keeps_every_document_and_what_is_judged() -> None:
    whole = make_dataset(60, 12)
    part = prompts.only_queries(whole, 5)
    assert len(part.documents) == 60
    assert part.qrels() == {query.id: whole.qrels()[query.id] for query in part.queries}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("openai/text-embedding-3-small", "by a switch of its own"),
        ("bm25", "makes no vectors"),
        ("voyage/voyage-4-large+voyage/voyage-4-lite", "check each of its two models"),
    ],
)
def test_what_has_no_prompts_is_skipped_and_said_so(spec: str, why: str, many: Dataset, ledger: Ledger) -> None:
    found = prompts.check(spec, catalog.load(spec), many, ledger)
    assert not found.warn
    assert why in found.sentence()


def test_too_few_queries_say_nothing(tiny: Dataset, ledger: Ledger) -> None:
    assert "12 queries are too few" in prompts.check("hash/64", catalog.load("hash/64"), tiny, ledger).sentence()


def test_alternatives_are_named_once_and_take_the_datasets_instruction() -> None:
    found = prompts.alternatives(RIGHT, "Find the clause")
    assert RIGHT not in found
    assert found[Prompts("Instruct: Find the clause\nQuery: ")] == "as Qwen3, e5-instruct"
    assert found[Prompts("query: ")] == "query's only"
    assert {one.document for one in prompts.alternatives(RIGHT, queries_only=True)} == {"passage: "}


def test_the_command_shows_a_table_and_warns_by_its_exit_code(many: Dataset, tmp_path: Path) -> None:
    folder = str(write_beir(many, tmp_path / "data"))
    fine = CliRunner().invoke(main, ["prompts", folder, "-m", "wordllama/256", "-m", "openai/text-embedding-3-small", "-q"])
    assert fine.exit_code == 0, fine.output
    assert "as nomic" in fine.output
    assert '"query: " / "passage: "' in fine.output
    assert "openai/text-embedding-3-small: prompts not checked: the API" in fine.output
    wrong = CliRunner().invoke(main, ["prompts", folder, "-m", f"wordllama/256{JUNK}", "-q", "--queries", "100"])
    assert wrong.exit_code == 1, wrong.output
    assert "warning: wordllama/256" in wrong.output


def test_a_run_warns_in_its_notes_in_the_summary_and_on_the_page(many: Dataset, tmp_path: Path) -> None:
    notes: list[str] = []

    class Listener(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    spec = f"wordllama/256{JUNK}"
    board = harness.evaluate(many, [spec, "hash/64"], out=tmp_path / "out", check_prompts=True, progress=Listener())
    assert [(remark.spec, remark.warn) for remark in board.remarks] == [(spec, True), ("hash/64", False)]
    assert any(note.startswith(spec) and "rank better than the configured" in note for note in notes)
    assert [one["warn"] for one in json.loads((tmp_path / "out" / "summary.json").read_text())["prompts"]] == [True, False]
    assert harness.load(tmp_path / "out").remarks == board.remarks
    shown = health.health(board, harness.choose(board))["notes"]
    assert [note.figure for note in shown if note.warn and "wrong prompts" in note.what] == [spec]
    assert any(note.figure == "1" and note.meaning == "Checked: hash/64." for note in shown)
    again = harness.evaluate(many, [spec], out=tmp_path / "out", check_prompts=True)
    assert again.remarks == board.remarks[:1]  # all from the store


def test_a_run_checks_by_itself_where_it_is_cheap_and_has_all_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_dataset(60, 30)
    assert [remark.spec for remark in harness.evaluate(data, ["hash/64"]).remarks] == ["hash/64"]
    assert harness.evaluate(data, ["hash/64"], check_prompts=False).remarks == ()
    harness.evaluate(data, ["hash/64"], out=tmp_path / "out", check_prompts=False)
    elsewhere = harness.evaluate(data, ["hash/64"], out=tmp_path / "out", store_folder=tmp_path / "empty")
    assert elsewhere.remarks == ()  # the cells were finished: nothing is embedded for the check alone
    monkeypatch.setattr(runner, "_PROMPT_SECONDS", 0.0)
    monkeypatch.setattr(runner, "_PROMPT_SHARE", 0.0)
    assert harness.evaluate(data, ["hash/64"]).remarks == ()
    assert len(harness.evaluate(data, ["hash/64"], check_prompts=True).remarks) == 1


def test_a_check_is_expected_to_take_what_its_queries_take_behind_prompts() -> None:
    model = catalog.load("hash/64").model
    trials = len(prompts.alternatives(Prompts(), queries_only=True))
    assert prompts.seconds(model, 100, 0.01) == pytest.approx(2 * trials * 100 * 0.01)


def test_a_check_that_fails_costs_no_figure(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(prompts, "compare", broken)
    board = harness.evaluate(many, ["hash/64"], check_prompts=True)
    assert not board.failed
    assert board.remarks == ()


def test_the_page_shows_old_boards_without_remarks() -> None:
    board = made(4)
    assert not [note for note in health.health(board, harness.choose(board))["notes"] if "prompt" in note.what]
    assert Remark("m", "text", warn=False) not in board.remarks
