"""Kinds of queries within a dataset: what they are sliced by, and which rows of "choosing a model" they speak for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.dataset import Dataset, Document, Query
from harness.result import Result

Slices = dict[str, dict[str, tuple[str, ...]]]
"""What is sliced by -> value -> ids of the queries, in the dataset's order."""
QUERY_WORDS = ((4, "1 to 4 words"), (12, "5 to 12 words"), (None, "over 12 words"))
DOCUMENT_WORDS = ((256, "up to 256 words"), (1000, "257 to 1,000 words"), (None, "over 1,000 words"))
QUERY_LENGTH, ANSWER_LENGTH, BM25, CUT_BY = "query length", "answer length", "BM25", "answer cut by "
DETECTED = "language (detected)"
FOUND_WITHIN = 10
TASKS = ("English general", "Multilingual", "Code search", "Long context", "Multimodal (text + image)")
ENGLISH, MULTILINGUAL, CODE, LONG, MULTIMODAL = TASKS
LONG_WORDS = 1000
_RARE = 0.02  # a language detected in a smaller share of the queries is taken for a mistake
_DETECT_WORDS = 100
_LANGUAGES = {"english": "en", "eng": "en"}
_BESIDE_CODE = frozenset(
    ("mixed", "general", "prose", "docs", "documentation", "english", "multilingual", "crosslingual", "long", "multimodal")
)
"""What a dataset says of itself when only some of it is code."""


def slices(dataset: Dataset, results: Sequence[Result] = ()) -> Slices:
    """Slice the queries of a dataset by tag, language, length, and what the systems measured on it made of them.

    Where no query is tagged with its language, the detected ones are a slice that says so.
    A query's answer length is that of its longest document of the highest grade, in blank-separated words. With BM25
    among the results, a query counts as found by it when a relevant document is among its first ten. Models that cut
    some of the answers off slice the queries into those with a cut answer and those without.
    """
    found: dict[str, dict[str, list[str]]] = {}
    _by_tag_and_language(dataset, found)
    for query in dataset.queries:
        _put(found, QUERY_LENGTH, _named(len(query.text.split()), QUERY_WORDS), query.id)
    lengths = _words(dataset)
    for query, best in zip(dataset.queries, dataset.judgements.best(), strict=True):
        _put(found, ANSWER_LENGTH, _named(int(lengths[best].max()), DOCUMENT_WORDS), query.id)
    for result in results:
        if result.spec == "bm25":
            for id_, grades in zip(result.query_ids, result.grades, strict=True):
                _put(found, BM25, f"{'finds' if np.any(grades[:FOUND_WITHIN] > 0) else 'misses'} it in {FOUND_WITHIN}", id_)
    for spec, result in {result.spec: result for result in results if any(result.answer_cut or ())}.items():
        for id_, cut in zip(result.query_ids, result.answer_cut or (), strict=True):
            _put(found, f"{CUT_BY}{spec}", "yes" if cut else "no", id_)
    order = {name: at for bounds in (QUERY_WORDS, DOCUMENT_WORDS) for at, (_, name) in enumerate(bounds)}
    return {
        name: {value: tuple(values[value]) for value in sorted(values, key=lambda value: order.get(value, 0))}
        for name, values in found.items()
        if len(values) > 1
    }


def _by_tag_and_language(dataset: Dataset, found: dict[str, dict[str, list[str]]]) -> None:
    for query in dataset.queries:
        for name, value in sorted(query.tags.items()):
            _put(found, tag_slice(name), value, query.id)
    if not any(map(_tagged_language, dataset.queries)):
        for query, language in zip(dataset.queries, query_languages(dataset), strict=True):
            _put(found, DETECTED, language, query.id)


def tag_slice(tag: str) -> str:
    """What a slice by one of the user's own tags is called: like the tag, unless another slice is called so."""
    return f"tag {tag}" if tag in (QUERY_LENGTH, ANSWER_LENGTH, BM25, DETECTED) or tag.startswith(CUT_BY) else tag


def of_others(by: str, specs: Collection[str]) -> bool:
    """Whether a slice is by the answers that a model cuts which is none of these."""
    return by.startswith(CUT_BY) and by.removeprefix(CUT_BY) not in specs


def tasks(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The queries that speak for each row of "choosing a model": row -> query ids; a query may speak for several.

    Code: a tag of the query, or of one of its answers, says "code"; or no such tag does, and the dataset is all of code
    (:func:`_all_code`). Long: its longest answer has over 1,000 words. Multimodal: it, or one of its answers, is an image.
    Multilingual: it is not in English, or tagged as multilingual or crosslingual. English general: everything else.
    An answer is a document of the query's highest grade.
    """
    languages, lengths = query_languages(dataset), _words(dataset)
    coded, all_code = np.array([_says(document, "code") for document in dataset.documents]), _all_code(dataset)
    images = np.array([document.image is not None for document in dataset.documents])
    found: dict[str, list[str]] = {task: [] for task in TASKS}
    for query, best, language in zip(dataset.queries, dataset.judgements.best(), languages, strict=True):
        belongs = {
            MULTILINGUAL: language != "en" or _says(query, "multilingual") or _says(query, "crosslingual"),
            CODE: all_code or _says(query, "code") or bool(coded[best].any()),
            LONG: int(lengths[best].max()) > LONG_WORDS,
            MULTIMODAL: query.image is not None or bool(images[best].any()),
        }
        for task in [task for task, does in belongs.items() if does] or [ENGLISH]:
            found[task].append(query.id)
    return {task: tuple(ids) for task, ids in found.items()}


def _all_code(dataset: Dataset) -> bool:
    """Whether a dataset is of code and nothing else: its task or tags say "code", and none of what it holds is told apart.

    That is when no query or document is tagged as code, and the dataset names nothing beside it, as "english" or "mixed".
    """
    words = _named_by(dataset.about.task, *dataset.about.tags)
    told_apart = any(_says(query, "code") for query in dataset.queries) or any(_says(document, "code") for document in dataset.documents)
    return "code" in words and not words & _BESIDE_CODE and not told_apart


def names_code(facts: Mapping[str, Any]) -> bool:
    """Whether a dataset, by its facts, says "code" of itself, though perhaps of other things too."""
    return "code" in _named_by(facts.get("task", ""), *facts.get("tags", ()))


def _named_by(*texts: str) -> set[str]:
    """The words of texts in small letters; those with a hyphen whole, without it, and in parts."""
    text = " ".join(texts).lower()
    return set(re.findall(r"\w+", f"{text} {text.replace('-', '')}"))


def query_languages(dataset: Dataset) -> list[str]:
    """The language of each query: its tag ``language``, else detected from it and the beginning of its best answer.

    Codes are ISO 639-1. Detection is for the corpus as a whole: a language found in under 2 % of the queries is
    taken for the commonest one.
    """
    tagged = map(_tagged_language, dataset.queries)
    languages = [_LANGUAGES.get(word, word) for word in (re.split(r"[-_ (]", tag)[0] for tag in tagged)]
    unknown = [at for at, language in enumerate(languages) if not language]
    if unknown:
        import py3langid

        best = dataset.judgements.best()
        for at in unknown:
            answer = dataset.documents[int(best[at][0])]
            words = f"{dataset.queries[at].text} {answer.title} {answer.text}".split()
            languages[at] = py3langid.classify(" ".join(words[:_DETECT_WORDS]))[0] if words else "en"
        counts = Counter(languages[at] for at in unknown)
        commonest = counts.most_common(1)[0][0]
        for at in unknown:
            if counts[languages[at]] < _RARE * len(unknown):
                languages[at] = commonest
    return languages


def _tagged_language(query: Query) -> str:
    return query.tags.get("language", query.tags.get("lang", "")).lower()


def _says(entry: Query | Document, word: str) -> bool:
    return any(value.lower().replace("-", "") == word for value in entry.tags.values())


def _words(dataset: Dataset) -> NDArray[np.int64]:
    return np.array([len(f"{document.title} {document.text}".split()) for document in dataset.documents])


def _put(found: dict[str, dict[str, list[str]]], name: str, value: str, query: str) -> None:
    found.setdefault(name, {}).setdefault(value, []).append(query)


def _named(words: int, bounds: tuple[tuple[int | None, str], ...]) -> str:
    return next(name for bound, name in bounds if bound is None or words <= bound)
