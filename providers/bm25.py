"""``bm25``: the lexical floor, by bm25s (Lucene's variant; k1 0.9 and b 0.4 as in Anserini's published runs)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from harness.dataset import Dataset, Document, Query
from harness.embedder import Item, Model, Settings
from harness.errors import ModelError, OptionError
from harness.index import Ranking

K1, B = 0.9, 0.4
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"
_WORD = regex.compile(rf"(?V1)([{_CJK}]+)|[[\p{{L}}\p{{N}}\p{{M}}]--[{_CJK}]]+")
_BLOCK = 64


def load(name: str, settings: Settings) -> BM25System:
    """``name`` must be empty."""
    if name:
        raise OptionError(f"bm25 takes no model name, but was given {name!r}; write bm25")
    return BM25System(settings)


class BM25System:
    """BM25 over title and text. Words are runs of letters, marks and digits in lower case, without stemming or stop words,
    so that it is the same floor in every language; Chinese, Japanese and Korean are cut into character pairs.
    """

    def __init__(self, settings: Settings) -> None:
        options = (("k1", str(K1)), ("b", str(B)), ("method", "lucene"))
        self.model = Model(provider="bm25", name="", revision="1", dim=0, options=options, **settings.facts())

    def rank(self, dataset: Dataset, k: int) -> Ranking:
        """Rank the documents that share a word with the query; documents without one are not found."""
        import bm25s

        corpus = [_words(_text(document)) for document in dataset.documents]
        if not any(corpus):
            raise ModelError("reads text only, and no document has any")
        retriever = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numpy")
        retriever.index(corpus, show_progress=False)
        return Ranking.from_scores(_scores(retriever, dataset.queries), dataset.tie_order(), k)


def _scores(retriever: Any, queries: Sequence[Query]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(queries), _BLOCK):
        block = np.stack([_score(retriever, _words(_text(query))) for query in queries[start : start + _BLOCK]])
        yield np.where(block > 0, block, -np.inf).astype(np.float32)


def _score(retriever: Any, words: list[str]) -> NDArray[np.float32]:
    ids = [retriever.vocab_dict[word] for word in words if word in retriever.vocab_dict]
    if not ids:
        return np.zeros(retriever.scores["num_docs"], dtype=np.float32)
    return np.asarray(retriever.get_scores_from_ids(ids))


def _text(entry: Document | Query) -> str:
    return Item(entry.text, getattr(entry, "title", "")).full


def _words(text: str) -> list[str]:
    words: list[str] = []
    for run in _WORD.finditer(text.lower()):
        word = run.group()
        pairs = run.group(1) is not None and len(word) > 1
        words += [word[at : at + 2] for at in range(len(word) - 1)] if pairs else [word]
    return words
