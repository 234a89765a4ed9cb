from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset, png, write_beir

import harness
from harness import runner
from harness.dataset import Dataset, Document, Query
from harness.embedder import Embedded, Item, Role, Settings
from harness.errors import HarnessError, OptionError, ResultError
from harness.files import whole_or_nothing
from harness.metrics import Measure, score
from providers.hash import HashEmbedder


class Counting(HashEmbedder):
    """Counts the texts it embeds and how often it was prepared."""

    def __init__(self, dim: int = 128) -> None:
        super().__init__(dim, Settings())
        self.texts: list[str] = []
        self.prepared = 0

    def prepare(self) -> None:
        self.prepared += 1

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        self.texts += [item.full for item in items]
        return super().embed(items, role)


def test_one_embedding_pass_gives_every_dimension(tiny: Dataset) -> None:
    model = Counting()
    board = harness.evaluate(tiny, [model], dims=[128, 64, 32])
    assert [r.dim for r in board.results if r.dim] == sorted((r.dim for r in board.results if r.dim), reverse=True)
    assert {r.dim for r in board.results} == {0, 32, 64, 128}
    assert len(model.texts) == len(tiny.documents) + len(tiny.queries)


def test_a_duplicate_text_is_embedded_once_and_both_documents_are_ranked() -> None:
    documents = [Document("a", "same words"), Document("b", "same words"), Document("c", "others entirely")]
    dataset = Dataset.build("twice", documents, [Query("q", "same")], {"q": {"a": 1}})
    model = Counting()
    board = harness.evaluate(dataset, [model], dims=["native"], floors=False)
    assert sorted(model.texts) == ["others entirely", "same", "same words"]
    (result,) = board.results
    assert result.documents[0].tolist()[:2] == ["b", "a"]  # equal scores: ids descending
    assert result.ranking_scores[0][0] == result.ranking_scores[0][1]


def test_the_numbers_equal_a_ranking_made_by_hand(tiny: Dataset) -> None:
    model = Counting()
    (result,) = harness.evaluate(tiny, [model], dims=[64], floors=False).results
    documents = model.embed([Item(d.text, d.title) for d in tiny.documents], "document").vectors[:, :64].astype(float)
    queries = model.embed([Item(q.text) for q in tiny.queries], "query").vectors[:, :64].astype(float)
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    order = np.argsort(-(queries @ unit.T), axis=1)
    expected = score(tiny.judgements, order, [Measure.parse("ndcg@10")])[Measure.parse("ndcg@10")]
    assert result.mean("ndcg@10") == pytest.approx(expected.mean(), abs=1e-12)


def test_floors_stand_in_every_leaderboard(tiny: Dataset) -> None:
    board = harness.evaluate(tiny, ["hash/32"])
    assert {r.spec for r in board.results if r.floor} == {"bm25", "random"}


def test_a_finished_cell_is_not_computed_again_unless_forced(tiny: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = harness.evaluate(tiny, [Counting()], out=out)
    times = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    again = Counting()
    second = harness.evaluate(tiny, [again], out=out)
    assert again.prepared == 0
    assert not again.texts
    assert times == {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert [r.scores["ndcg@10"].tolist() for r in first.results] == [r.scores["ndcg@10"].tolist() for r in second.results]
    forced = Counting()
    harness.evaluate(tiny, [forced], out=out, force=True)
    assert not forced.texts  # the vectors are still in the store
    assert all(path.stat().st_mtime_ns > time for path, time in times.items())


def test_nothing_is_loaded_when_every_vector_is_in_the_store(tiny: Dataset) -> None:
    models = [Counting(), Counting()]
    for model in models:
        harness.evaluate(tiny, [model], floors=False)
    assert models[0].prepared > 0
    assert (models[1].prepared, models[1].texts) == (0, [])


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "results" / "one.arrow"
    with pytest.raises(ZeroDivisionError), whole_or_nothing(target) as half:
        half.write_text(str(1 // len([])))
    assert not list(target.parent.iterdir())
    with whole_or_nothing(target) as half:
        half.write_text("whole")
    assert [path.read_text() for path in target.parent.iterdir()] == ["whole"]


def test_a_new_measure_is_scored_from_the_stored_ranking(tiny: Dataset, tmp_path: Path) -> None:
    harness.evaluate(tiny, ["hash/32"], metrics=["ndcg@10"], out=tmp_path)
    board = harness.evaluate(tiny, ["hash/32"], metrics=["mrr@7", "ndcg@10"], out=tmp_path)
    fresh = harness.evaluate(tiny, ["hash/32"], metrics=["mrr@7", "ndcg@10"])
    assert board.headline == "mrr@7"
    assert board.frame["mrr@7"].tolist() == fresh.frame["mrr@7"].tolist()


def test_changed_data_is_another_cell(tiny: Dataset, tmp_path: Path) -> None:
    harness.evaluate(tiny, ["hash/32"], out=tmp_path, floors=False, dims=["native"])
    harness.evaluate(make_dataset(seed=1), ["hash/32"], out=tmp_path, floors=False, dims=["native"])
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_a_failing_model_is_a_row_and_the_others_go_on(tiny: Dataset) -> None:
    class Broken(Counting):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.model = replace(self.model, name=type(error).__name__)
            self.error = error

        def embed(self, items: Sequence[Item], role: Role) -> Embedded:
            raise self.error

    broken = [Broken(MemoryError("no room")), Broken(RuntimeError("odd\nthing")), Broken(HarnessError("mend me"))]
    board = harness.evaluate(tiny, ["st/no/such-model", *broken, "hash/32"], dims=["native"])
    assert [(a.spec, a.status) for a in board.absences] == [
        ("st/no/such-model", "failed"),
        ("hash/MemoryError", "failed"),
        ("hash/RuntimeError", "failed"),
        ("hash/HarnessError", "failed"),
    ]
    reasons = [absence.reason for absence in board.absences]
    assert "neither in the local cache nor to be had from the hub" in reasons[0]
    assert reasons[1:] == ["out of memory: no room", "RuntimeError: odd", "mend me"]
    assert board.failed
    assert {"hash/32", "bm25", "random"} == {r.spec for r in board.results}


def test_unusable_vectors_fail_the_model_and_leave_nothing(tiny: Dataset, tmp_path: Path) -> None:
    class Zeros(Counting):
        def embed(self, items: Sequence[Item], role: Role) -> Embedded:
            return Embedded(np.zeros((len(items), 128), dtype=np.float32), np.zeros(len(items), dtype=np.int64))

    board = harness.evaluate(tiny, [Zeros()], floors=False, out=tmp_path)
    assert "all zeros" in board.absences[0].reason
    assert not list((tmp_path / "results").iterdir())


def test_a_dim_above_the_native_one_is_skipped_and_said(tiny: Dataset) -> None:
    board = harness.evaluate(tiny, ["hash/64"], dims=[128, 32], floors=False)
    assert [r.dim for r in board.results] == [32]
    assert [(a.status, a.reason) for a in board.absences] == [("skipped", "dim 128 is larger than the native 64")]
    assert not board.failed


def test_a_leaderboard_reads_back_as_it_was(tiny: Dataset, tmp_path: Path) -> None:
    board = harness.evaluate(tiny, ["hash/64", "st/no/model"], out=tmp_path)
    again = harness.load(tmp_path)
    assert again.rows() == board.rows()
    assert again.dataset == board.dataset
    assert again.absences == board.absences
    for one, two in zip(board.results, again.results, strict=True):
        assert [list(ids) for ids in one.documents] == [list(ids) for ids in two.documents]
        assert [grades.tolist() for grades in one.grades] == [grades.tolist() for grades in two.grades]
        assert all((one.scores[m] == two.scores[m]).all() for m in one.scores)
        assert (one.cost, one.environment, one.device) == (two.cost, two.environment, two.device)


def test_summary_rows_have_what_a_script_needs(tiny: Dataset, tmp_path: Path) -> None:
    harness.evaluate(tiny, ["hash/64", "st/no/model"], out=tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = {(row["model"], row.get("dim")): row for row in summary["rows"]}
    cell = rows["hash/64", 64]
    assert (cell["precision"], cell["index"], cell["device"], cell["status"]) == ("float32", "Flat", "cpu", "ok")
    assert 0 < cell["metrics"]["ndcg@10"] <= 1
    assert cell["cost"]["bytes"] == 64 * 4 * len(tiny.documents)
    assert cell["cost"]["tokens"] > 0
    assert (tmp_path / cell["file"]).exists()
    assert rows["st/no/model", None]["status"] == "failed"


def test_an_unreadable_result_is_an_error_and_never_skipped(tiny: Dataset, tmp_path: Path) -> None:
    harness.evaluate(tiny, ["hash/64"], out=tmp_path, floors=False, dims=["native"])
    (file,) = (tmp_path / "results").iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"nothing of ours"):
        file.write_bytes(damaged)
        with pytest.raises(ResultError, match=r"not a readable result.*--force"):
            harness.load(tmp_path)
    file.unlink()
    with pytest.raises(ResultError, match="not a readable result"):
        harness.load(tmp_path)


def test_the_order_of_documents_changes_nothing(tiny: Dataset, tmp_path: Path) -> None:
    folder = write_beir(tiny, tmp_path / "a")
    turned = write_beir(tiny, tmp_path / "b")
    for name in ("corpus.jsonl", "queries.jsonl"):
        lines = (turned / name).read_text().splitlines(keepends=True)
        (turned / name).write_text("".join(reversed(lines)))
    one = harness.evaluate(folder, ["hash/64"], metrics=["ndcg@10"])
    two = harness.evaluate(turned, ["hash/64"], metrics=["ndcg@10"])
    assert one.frame["ndcg@10"].tolist() == two.frame["ndcg@10"].tolist()
    assert {r.identity for r in one.results} == {r.identity for r in two.results}
    by_query = [dict(zip(b.results[0].query_ids, map(list, b.results[0].documents), strict=True)) for b in (one, two)]
    assert by_query[0] == by_query[1]


def test_a_wrong_spec_stops_before_anything_is_measured(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="did you mean 'hash'"):
        harness.evaluate(tiny, ["hash/32", "hsah/3"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_model_may_be_given_as_text(tiny: Dataset) -> None:
    assert {r.spec for r in harness.evaluate(tiny, "hash/32", floors=False).results} == {"hash/32"}


def test_the_same_model_twice_is_said(tiny: Dataset) -> None:
    board = harness.evaluate(tiny, ["hash/32", "hash/32?licence=mine"], floors=False)
    assert [(a.spec, a.status, a.reason) for a in board.absences] == [
        ("hash/32?licence=mine @ 32", "skipped", "is the very same as hash/32 @ 32")
    ]


def test_a_folder_that_cannot_be_written_is_refused_first(tiny: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = Counting()
    with pytest.raises(ResultError, match="results cannot be written there"):
        harness.evaluate(tiny, [model], out=tmp_path / "file")
    assert not model.texts


def test_boards_and_results_print_as_one_line(tiny: Dataset) -> None:
    board = harness.evaluate(tiny, "hash/32", floors=False, metrics=["ndcg@10"])
    assert repr(board) == "<Leaderboard of tiny: 1 results, 0 absences, by ndcg@10>"
    assert repr(board.results[0]).startswith("<Result hash/32 @ 32 on tiny: ndcg@10 0.")


@pytest.mark.parametrize("metrics", [[], ["ndgc@10"], ["ndcg"], ["ndcg@0"]])
def test_wrong_metrics_are_refused(tiny: Dataset, metrics: list[str]) -> None:
    with pytest.raises(OptionError, match=r"metric"):
        harness.evaluate(tiny, ["hash/32"], metrics=metrics)


def test_memory_does_not_grow_with_the_corpus_while_embedding(tmp_path: Path) -> None:
    """Embedding 20,000 x 2,048 floats (164 MB) must not keep them: anonymous memory grows by far less."""
    code = f"""
import numpy as np
from pathlib import Path
from harness import filling, store
from harness.embedder import Embedded, Item, Model
from harness.ledger import Ledger
from harness.progress import Silent
from harness.dataset import Dataset, Document, Query

class Cheap:
    batch = 256
    model = Model(provider="cheap", name="", revision="1", dim=2048)
    def prepare(self): pass
    def embed(self, items, role):
        return Embedded(np.random.default_rng(7).random((len(items), 2048), dtype=np.float32), np.ones(len(items), dtype=np.int64))

def anonymous():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) * 1024

data = Dataset.build("big", [Document(str(n), f"text {{n}}") for n in range(20_000)], [Query("q", "text")], {{"q": {{"1": 1}}}})
ledger = Ledger(store.VectorStore(Path({str(tmp_path)!r})), "big")
before = anonymous()
stored = filling.fill(ledger, Silent(), "cheap", Cheap(), data, "document")
print(anonymous() - before, stored.matrix.shape[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, rows = map(int, done.stdout.split())
    assert rows == 20_000
    assert grown < 100e6, f"anonymous memory grew by {grown / 1e6:.0f} MB"


def test_defaults_are_what_the_readme_says() -> None:
    assert runner.catalog.DEFAULT_MODELS == ("bm25", "random", "wordllama/256", "packaged/all-MiniLM-L6-v2")
    assert runner.DEFAULT_METRICS[:2] == ("ndcg@10", "recall@10")


def test_a_corpus_of_pictures_skips_bm25_and_fails_text_models(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    dataset = Dataset.build("pictures", [Document("a", image=tmp_path / "a.png")], [Query("q", "a cat")], {"q": {"a": 1}})
    board = harness.evaluate(dataset, ["hash/32"])
    reasons = {absence.spec: (absence.status, absence.reason) for absence in board.absences}
    assert reasons["bm25"] == ("skipped", "reads text only, and no document has any")
    assert reasons["hash/32"] == ("failed", f"reads text only, but {tmp_path / 'a.png'} is an image without text")


def test_the_evidence_is_kept_beside_the_summary_and_read_back(tmp_path: Path) -> None:
    documents = [Document("short", "one two three four"), Document("long", "five six"), Document("other", "seven")]
    queries = [Query("q0", "one"), Query("q1", "one two")]
    data = Dataset.build("kept", documents, queries, {"q0": {"short": 2, "other": -1}, "q1": {"short": 1, "long": 1}})
    board = harness.evaluate(data, ["hash/64"], out=tmp_path)
    again = harness.load(tmp_path)
    assert board.queries == {"q0": "one", "q1": "one two"}
    assert board.judgements == data.qrels() == {"q0": {"short": 2, "other": -1}, "q1": {"short": 1, "long": 1}}
    assert board.documents["short"] == "one two three four"
    for name in ("queries", "judgements", "documents", "tasks", "slices"):
        assert getattr(again, name) == getattr(board, name)
    assert set(json.loads((tmp_path / "evidence.json").read_text())) == {"schema", "queries", "judgements", "documents"}
    assert "one two three four" not in (tmp_path / "summary.json").read_text()
    assert board.dataset["queries_with_one_relevant"] == 1


def test_the_beginnings_kept_are_of_documents_that_are_judged_or_found() -> None:
    documents = [Document(f"d{n:03}", f"word{n} " * 60, title="A title") for n in range(40)]
    data = Dataset.build("many", documents, [Query("q", "word7")], {"q": {"d007": 1, "d039": 0}})
    board = harness.evaluate(data, ["hash/64"], floors=False, dims=["native"])
    assert set(board.documents) == {"d007", "d039", *board.results[0].documents[0][:10]}
    assert board.documents["d039"] == ("A title " + "word39 " * 60)[:200]


@pytest.mark.parametrize(("text", "message"), [(None, "evidence.json: no such file"), ("{", "not a readable leaderboard"), ("{}", "not a")])
def test_a_leaderboard_without_its_evidence_is_an_error(tiny: Dataset, tmp_path: Path, text: str | None, message: str) -> None:
    harness.evaluate(tiny, ["hash/64"], out=tmp_path, floors=False, dims=["native"])
    (tmp_path / "evidence.json").unlink()
    if text is not None:
        (tmp_path / "evidence.json").write_text(text)
    with pytest.raises(ResultError, match=message):
        harness.load(tmp_path)
