"""A small corpus, a store of its own for every test, and a Chromium for those that look at pages."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.dataset import Dataset, Document, Query

WORDS = ("harbour storm ferry ticket refund pilot lamp engine rope anchor tide chart engine crew bell signal cabin deck").split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _any_machine() -> Iterator[None]:
    """Expected vectors are those of float32: what this machine's instructions or packages would be faster with is for tests that say so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("providers._compute.native", lambda device: "float32")
        patch.setattr("providers._compute.find_spec", lambda name: None)
        yield


def make_dataset(documents: int = 60, queries: int = 12, name: str = "tiny", seed: int = 0) -> Dataset:
    """Random sentences of a small vocabulary; each query is made of words of its one relevant document."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 9)) + f" number{row}" for row in range(documents)]
    asked = rng.choice(documents, queries, replace=False)
    return Dataset.build(
        name,
        [Document(f"d{row}", text, title=f"Title {row}") for row, text in enumerate(texts)],
        [Query(f"q{row}", " ".join(texts[row].split()[2:6])) for row in asked],
        {f"q{row}": {f"d{row}": 2, f"d{(row + 1) % documents}": 0} for row in asked},
    )


def write_beir(dataset: Dataset, folder: Path) -> Path:
    """Write a dataset as a folder in BEIR layout."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": d.id, "title": d.title, "text": d.text, "tags": dict(d.tags)} for d in dataset.documents]
    queries = [{"_id": q.id, "text": q.text, "tags": dict(q.tags)} for q in dataset.queries]
    for file, rows in (("corpus.jsonl", documents), ("queries.jsonl", queries)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore"]
    judged = dataset.judgements
    for query, document, grade in zip(judged.queries, judged.documents, judged.grades, strict=True):
        lines.append(f"{dataset.queries[query].id}\t{dataset.documents[document].id}\t{grade}")
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def png(colour: str = "red", size: tuple[int, int] = (20, 16)) -> bytes:
    """A picture of one colour, as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def tiny() -> Dataset:
    return make_dataset()
