"""Kinds of queries within a dataset: by the user's own tags, by length, and by whether plain word matching finds the answer."""

from __future__ import annotations

import numpy as np

from harness.dataset import Dataset
from harness.result import Result

Slices = dict[str, dict[str, tuple[str, ...]]]
"""What is sliced by -> value -> ids of the queries, in the dataset's order."""
QUERY_WORDS = ((4, "1 to 4 words"), (12, "5 to 12 words"), (None, "over 12 words"))
DOCUMENT_WORDS = ((256, "up to 256 words"), (1000, "257 to 1,000 words"), (None, "over 1,000 words"))
FOUND_WITHIN = 10


def slices(dataset: Dataset, lexical: Result | None = None) -> Slices:
    """Slice the queries of a dataset; ``lexical`` is BM25's result on it, if it was measured.

    A query's document length is that of its longest document of the highest grade, in blank-separated words. With
    ``lexical``, a query counts as found by BM25 when a relevant document is among its first ten.
    """
    found: dict[str, dict[str, list[str]]] = {}
    lengths_in_order = [name for bounds in (QUERY_WORDS, DOCUMENT_WORDS) for _, name in bounds]
    for query in dataset.queries:
        for name, value in sorted(query.tags.items()):
            _put(found, name, value, query.id)
    for query in dataset.queries:
        _put(found, "query length", _named(len(query.text.split()), QUERY_WORDS), query.id)
    lengths = [len(f"{document.title} {document.text}".split()) for document in dataset.documents]
    judged = dataset.judgements
    for row, query in enumerate(dataset.queries):
        pairs = slice(judged.starts[row], judged.starts[row + 1])
        best = judged.documents[pairs][judged.grades[pairs] == judged.grades[pairs].max()]
        _put(found, "answer length", _named(max(lengths[document] for document in best), DOCUMENT_WORDS), query.id)
    if lexical is not None:
        hit = {query: bool(np.any(grades[:FOUND_WITHIN] > 0)) for query, grades in zip(lexical.query_ids, lexical.grades, strict=True)}
        for query in dataset.queries:
            _put(found, "BM25", f"{'finds' if hit[query.id] else 'misses'} it in {FOUND_WITHIN}", query.id)
    return {
        name: {value: tuple(values[value]) for value in (*(v for v in lengths_in_order if v in values), *values)}
        for name, values in found.items()
        if len(values) > 1
    }


def _put(found: dict[str, dict[str, list[str]]], name: str, value: str, query: str) -> None:
    found.setdefault(name, {}).setdefault(value, []).append(query)


def _named(words: int, bounds: tuple[tuple[int | None, str], ...]) -> str:
    return next(name for bound, name in bounds if bound is None or words <= bound)
