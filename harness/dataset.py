"""A corpus, its queries and its graded judgements, as one immutable record."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness import images
from harness.errors import DatasetError
from harness.metrics import Judgements

Entry = TypeVar("Entry", "Document", "Query")
Qrels = Mapping[str, Mapping[str, int]]
"""query id -> document id -> grade"""


@dataclass(frozen=True, slots=True)
class Document:
    """One thing that can be found: a text, an image, or both."""

    id: str
    text: str = ""
    title: str = ""
    image: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Query:
    """One thing that is looked for: a text, an image, or both."""

    id: str
    text: str = ""
    image: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a dataset says of itself (dataset.toml). ``instructions`` (role -> text) say the task to models whose prompts have a place for
    it, and so change their vectors; nothing else here changes a number.
    """

    name: str
    description: str = ""
    task: str = ""
    licence: str = ""
    tags: tuple[str, ...] = ()
    instructions: Mapping[str, str] = field(default_factory=dict)


class Fingerprint(NamedTuple):
    """SHA-256 of each part of a dataset, in hex, independent of the order of the lines."""

    documents: str
    queries: str
    judgements: str
    judged: str
    """The documents that are judged for any of the queries."""

    def __str__(self) -> str:
        return hashlib.sha256("".join(self).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Documents, the queries that have a relevant one among them, and who is relevant to whom.

    ``judgements`` speaks of rows of ``queries`` and ``documents``. ``left_out`` counts queries of the split
    without any relevant document: they cannot be scored and are not asked. ``skipped`` counts entries with
    neither text nor image that ``skip_empty`` allowed to pass over.
    """

    about: About
    split: str
    documents: Sequence[Document]
    queries: Sequence[Query]
    judgements: Judgements
    fingerprint: Fingerprint
    left_out: int = 0
    skipped: int = 0

    @classmethod
    def build(
        cls,
        about: About | str,
        documents: Iterable[Document],
        queries: Iterable[Query],
        qrels: Qrels,
        *,
        split: str = "test",
        skip_empty: bool = False,
    ) -> Dataset:
        """Check and index documents, queries and judgements that are already in memory.

        Queries that ``qrels`` does not mention belong to other splits and are dropped. Raises DatasetError for
        a duplicate id, an entry with neither text nor image, a judgement of an unknown id, a grade that is not an
        integer, or when no query has a relevant document.
        """
        about = About(name=about) if isinstance(about, str) else about
        documents, queries = tuple(documents), tuple(queries)
        _check_qrels(qrels, _rows(queries, "query"), _rows(documents, "document"))
        kept = _not_empty(documents, about.name, skip_empty)
        askable = _not_empty(queries, about.name, skip_empty)
        rows = {document.id: row for row, document in enumerate(kept)}
        judged = {q: {d: g for d, g in grades.items() if d in rows} for q, grades in qrels.items()}
        asked = tuple(query for query in askable if _has_relevant(judged.get(query.id, {})))
        if not asked:
            raise DatasetError(f"{about.name}: no query of split {split!r} has a relevant document (a grade of 1 or more)")
        triples = [(q, rows[d], g) for q, query in enumerate(asked) for d, g in judged[query.id].items()]
        columns = np.array(triples, dtype=np.int64).reshape(-1, 3).T
        return cls(
            about=about,
            split=split,
            documents=kept,
            queries=asked,
            judgements=Judgements.build(columns[0], columns[1], columns[2].astype(np.int32), len(asked)),
            fingerprint=Fingerprint(
                _digest(_entry_line(document) for document in kept),
                _digest(_entry_line(query) for query in asked),
                _digest(f"{q.id}\t{d}\t{g}" for q in asked for d, g in judged[q.id].items()),
                _digest(_entry_line(kept[rows[d]]) for d in {d for q in asked for d in judged[q.id]}),
            ),
            left_out=sum(query.id in qrels for query in askable) - len(asked),
            skipped=len(documents) - len(kept) + len(queries) - len(askable),
        )

    def qrels(self) -> dict[str, dict[str, int]]:
        """The judgements of the queries by id: query -> document -> grade."""
        judged = self.judgements
        found: dict[str, dict[str, int]] = {query.id: {} for query in self.queries}
        for query, document, grade in zip(judged.queries, judged.documents, judged.grades, strict=True):
            found[self.queries[query].id][self.documents[document].id] = int(grade)
        return found

    def tie_order(self) -> NDArray[np.int64]:
        """Place of each document row, ``(documents,)``, among all ids in descending order: of equal scores the lower wins.

        Ids compare as UTF-8 strings, as in trec_eval: "9" comes before "10".
        """
        return _tie_order(tuple(document.id for document in self.documents))

    def facts(self) -> dict[str, Any]:
        """What a reader wants to know of the dataset, as JSON-able values; lengths in blank-separated words."""
        lengths = np.array([len(f"{document.title} {document.text}".split()) for document in self.documents])
        relevant = self.judgements.relevant()
        return {
            "name": self.about.name,
            "description": self.about.description,
            "task": self.about.task,
            "licence": self.about.licence,
            "tags": list(self.about.tags),
            "instructions": dict(self.about.instructions),
            "split": self.split,
            "fingerprint": self.fingerprint._asdict(),
            "documents": len(self.documents),
            "queries": len(self.queries),
            "judgements": len(self.judgements.grades),
            "relevant_per_query": float(relevant.mean()),
            "queries_with_one_relevant": int((relevant == 1).sum()),
            "queries_left_out": self.left_out,
            "entries_skipped": self.skipped,
            "duplicate_documents": len(lengths) - len({(d.title, d.text, d.image) for d in self.documents}),
            "mean_words": float(lengths.mean()),
            "longest_words": int(lengths.max()),
            "images": sum(document.image is not None for document in self.documents),
            "query_tags": {name: dict(Counter(q.tags[name] for q in self.queries if name in q.tags)) for name in self._tag_names()},
        }

    def _tag_names(self) -> list[str]:
        return sorted({name for query in self.queries for name in query.tags})


MAX_GRADE = 1_000_000
SKIP_EMPTY_FIX = "give it a text, or write skip_empty = true in dataset.toml"


def is_empty(entry: Document | Query) -> bool:
    """Whether there is nothing to embed: no image and no text but blanks."""
    return entry.image is None and not entry.text.strip() and not getattr(entry, "title", "").strip()


@lru_cache(maxsize=4)
def _tie_order(ids: tuple[str, ...]) -> NDArray[np.int64]:
    order = np.empty(len(ids), dtype=np.int64)
    order[sorted(range(len(ids)), key=ids.__getitem__, reverse=True)] = np.arange(len(ids))
    order.setflags(write=False)
    return order


def _not_empty(entries: Sequence[Entry], dataset: str, skip_empty: bool) -> tuple[Entry, ...]:
    kept = tuple(entry for entry in entries if not is_empty(entry))
    if len(kept) < len(entries) and not skip_empty:
        first = next(entry.id for entry in entries if is_empty(entry))
        raise DatasetError(f"{dataset}: {first!r} has neither text nor image; {SKIP_EMPTY_FIX}")
    return kept


def _rows(entries: Sequence[Document | Query], what: str) -> dict[str, int]:
    rows: dict[str, int] = {}
    for row, entry in enumerate(entries):
        if rows.setdefault(entry.id, row) != row:
            raise DatasetError(f"{what} id {entry.id!r} occurs twice; ids must be unique")
    return rows


def _check_qrels(qrels: Qrels, queries: Mapping[str, int], documents: Mapping[str, int]) -> None:
    for query, grades in qrels.items():
        if query not in queries:
            raise DatasetError(f"the judgements name query {query!r}, which is not among the {len(queries)} queries")
        for document, grade in grades.items():
            if document not in documents:
                raise DatasetError(f"the judgements name document {document!r}, which is not among the {len(documents)} documents")
            if isinstance(grade, bool) or not isinstance(grade, int):
                raise DatasetError(f"grade {grade!r} of query {query!r} and document {document!r} is not an integer")
            if abs(grade) > MAX_GRADE:
                raise DatasetError(f"grade {grade} of query {query!r} and document {document!r} is not within {MAX_GRADE}")


def _has_relevant(grades: Mapping[str, int]) -> bool:
    return any(grade > 0 for grade in grades.values())


def _entry_line(entry: Document | Query) -> str:
    if entry.image and (wrong := images.problem(entry.image)):
        raise DatasetError(f"image {entry.image} of {entry.id!r} {wrong}")
    image = hashlib.sha256(entry.image.read_bytes()).hexdigest() if entry.image else ""
    tags = sorted(entry.tags.items())
    return repr((entry.id, getattr(entry, "title", ""), entry.text, image, tags))


def _digest(lines: Iterable[str]) -> str:
    digests = sorted(hashlib.sha256(line.encode("utf-8", "surrogatepass")).digest() for line in lines)
    return hashlib.sha256(b"".join(digests)).hexdigest()
