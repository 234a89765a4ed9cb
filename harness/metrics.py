"""Ranking measures over whole query sets, equal to trec_eval's.

A measure is a value whose text is its identity: ``Measure.parse("ndcg@10")`` prints as ``ndcg@10``. Scores are
vectors over queries, never only a mean. The rules are trec_eval's (linear gain, discount log2(rank + 1), grades
above zero are relevant, a map is divided by all relevant documents); the order of the ranking, ties included, is
settled before it comes here (harness/index.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.errors import OptionError, nearest

Floats = NDArray[np.float64]
UNJUDGED = np.iinfo(np.int32).min
"""The grade of a document that nobody judged for a query; any real grade is larger."""


@dataclass(frozen=True, slots=True)
class Judgements:
    """Graded relevance of (query row, document row) pairs, grouped by query.

    ``starts`` is ``(queries + 1,)``: the pairs of query q are ``starts[q]:starts[q + 1]`` of ``documents`` (rows,
    ascending within a query) and of ``grades``.
    """

    starts: NDArray[np.int64]
    documents: NDArray[np.int64]
    grades: NDArray[np.int32]

    @classmethod
    def build(cls, queries: NDArray[np.int64], documents: NDArray[np.int64], grades: NDArray[np.int32], count: int) -> Judgements:
        """Group pairs given in any order; each of the three arrays is ``(pairs,)``, ``count`` is the number of queries."""
        order = np.lexsort((documents, queries))
        starts = np.zeros(count + 1, dtype=np.int64)
        np.cumsum(np.bincount(queries, minlength=count), out=starts[1:])
        return cls(starts, documents[order], grades[order].astype(np.int32))

    @property
    def queries(self) -> NDArray[np.int64]:
        """The query row of each pair, ``(pairs,)``."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def relevant(self) -> NDArray[np.int64]:
        """How many relevant documents each query has, ``(queries,)``."""
        return np.bincount(self.queries[self.grades > 0], minlength=len(self.starts) - 1)

    def best(self) -> list[NDArray[np.int64]]:
        """The rows of the documents of the highest grade, an array per query."""
        pairs = [slice(start, end) for start, end in zip(self.starts[:-1], self.starts[1:], strict=True)]
        return [self.documents[pair][self.grades[pair] == self.grades[pair].max(initial=UNJUDGED)] for pair in pairs]

    def grade(self, ranked: NDArray[np.integer]) -> NDArray[np.int32]:
        """Look up the grades of ranked document rows ``(queries, k)``; UNJUDGED where nobody judged, or for row -1."""
        if not len(self.documents):
            return np.full(ranked.shape, UNJUDGED, dtype=np.int32)
        width = max(int(self.documents.max()), int(ranked.max(initial=0))) + 1
        known = self.queries * width + self.documents  # ascending: grouped by query, sorted within
        wanted = np.arange(len(ranked))[:, None] * width + ranked
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where((known[at] == wanted) & (ranked >= 0), self.grades[at], UNJUDGED).astype(np.int32)

    def ideal(self, k: int) -> Floats:
        """The best k positive grades of each query in descending order, padded with zeros, ``(queries, k)``."""
        queries, gains = self.queries, np.maximum(self.grades, 0)
        order = np.lexsort((-gains, queries))
        place = np.arange(len(order)) - self.starts[queries]
        best = np.zeros((len(self.starts) - 1, k))
        kept = place < k
        best[queries[kept], place[kept]] = gains[order][kept]
        return best


class _Judged:
    """A judged ranking: what the measures below read, worked out once for all of them."""

    def __init__(self, judgements: Judgements, ranked: NDArray[np.integer]) -> None:
        self.judgements = judgements
        self.grades = judgements.grade(ranked)  # (queries, k)
        self.hits = self.grades > 0
        self.relevant = judgements.relevant()

    @cached_property
    def found(self) -> NDArray[np.int64]:  # (queries, k): relevant documents up to and including each rank
        return np.cumsum(self.hits, axis=1)

    def found_at(self, k: int) -> Floats:
        return self.found[:, min(k, self.hits.shape[1]) - 1].astype(np.float64)


def _ndcg(judged: _Judged, k: int) -> Floats:
    gains = np.where(judged.hits, judged.grades, 0)[:, :k]
    ideal = judged.judgements.ideal(k)
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    return np.asarray((gains @ discount[: gains.shape[1]]) / (ideal @ discount))


def _average_precision(judged: _Judged, k: int) -> Floats:
    ranks = np.arange(1, judged.hits.shape[1] + 1)
    precision = np.where(judged.hits, judged.found / ranks, 0.0)
    return np.asarray(precision[:, :k].sum(axis=1) / judged.relevant)


def _reciprocal_rank(judged: _Judged, k: int) -> Floats:
    hits = judged.hits[:, :k]
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)


MEASURES: Mapping[str, Callable[[_Judged, int], Floats]] = {
    "ndcg": _ndcg,
    "recall": lambda judged, k: judged.found_at(k) / judged.relevant,
    "mrr": _reciprocal_rank,
    "map": _average_precision,
    "precision": lambda judged, k: judged.found_at(k) / k,
    "success": lambda judged, k: (judged.found_at(k) > 0).astype(np.float64),
}
"""Every measure: name -> function of a judged ranking and a cut-off. All lie in 0..1, and higher is better."""


@dataclass(frozen=True, slots=True, order=True)
class Measure:
    """A measure with its cut-off, such as ``ndcg@10``: only the first ``cutoff`` documents count."""

    name: str
    cutoff: int

    @classmethod
    def parse(cls, text: str) -> Measure:
        """Read ``name@cutoff``; raises OptionError with what is allowed."""
        name, _, cutoff = text.partition("@")
        if name not in MEASURES:
            raise OptionError(f"metric {text!r} is not one of {', '.join(MEASURES)} with a cut-off, as in ndcg@10{nearest(name, MEASURES)}")
        if not re.fullmatch(r"[1-9][0-9]{0,5}", cutoff):
            raise OptionError(f"metric {text!r} needs a cut-off between 1 and 999999, as in {name}@10")
        return cls(name, int(cutoff))

    def __str__(self) -> str:
        return f"{self.name}@{self.cutoff}"


def score(judgements: Judgements, ranked: NDArray[np.integer], measures: Iterable[Measure]) -> dict[Measure, Floats]:
    """Score rankings: document rows ``(queries, k)``, best first, -1 where nothing was found.

    Returns one float64 vector ``(queries,)`` per measure. Every query must have a relevant document (the dataset
    leaves others out); raises ValueError otherwise, or where the ranking has another number of queries.
    Formulas: trec_eval 9.0.8, m_ndcg_cut.c, m_recall.c, m_map_cut.c, m_recip_rank.c, m_P.c, m_success.c.
    """
    if len(ranked) != len(judgements.starts) - 1:
        raise ValueError(f"{len(ranked)} rankings for {len(judgements.starts) - 1} judged queries")
    measures = list(measures)
    judged = _Judged(judgements, ranked[:, : max((measure.cutoff for measure in measures), default=0)])  # what lies behind counts nowhere
    if not judged.relevant.all():
        raise ValueError(f"query row {int(np.argmin(judged.relevant > 0))} has no relevant document")
    return {measure: MEASURES[measure.name](judged, measure.cutoff) for measure in measures}
