"""Does the vector of a word know which sense it has here? ``bakeoff senses``: the same word in two sentences, layer by layer.

For each pair of sentences the vectors of the word's tokens are averaged and held against each other by cosine. The area under the ROC
curve (AUC) is the probability that a pair of the same sense is more alike than a pair of different senses of the same word: 0.5 for
static vectors, which are the same in every sentence, 1 where context tells every pair apart. Pairs of different words are not compared:
how alike the vectors of a word are at all differs much more by word and language than by sense.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness import catalog, shipped, stats
from harness.embedder import Embedder, Item, TokenEmbedder
from harness.errors import DatasetError, HarnessError, ModelError, nearest
from harness.keys import redact
from harness.result import Absence, Leaderboard

Floats = NDArray[np.float64]
Word = tuple[str, str]
"""A language and a word of it: what is written alike in two languages is two words."""
DEFAULT_MODELS = ("wordllama/256", "packaged/all-MiniLM-L6-v2")
TEXT = "whole text"
"""What stands beside the layers: the model's vector of the whole sentence, the one that retrieval uses."""
ROUGH_BELOW = 10
"""An interval that rests on fewer words than this is marked as rough."""
_RESAMPLES = 2_000
_LEVEL = 0.95
_DECIMALS = 9  # of a cosine: equal vectors give 1 exactly, and tie
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class SensePair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A word in two sentences; ``senses`` names the sense it has in each, ``same`` says whether it is one."""

    word: _Text
    language: _Text
    same: bool
    first: _Text
    second: _Text
    senses: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Auc:
    """An area under the ROC curve with its 95 % interval, over so many pairs of so many words; NaN where nothing can be compared."""

    value: float
    low: float
    high: float
    pairs: int
    words: int

    @property
    def rough(self) -> bool:
        """Whether the interval rests on too few words to be relied upon."""
        return self.words < ROUGH_BELOW


@dataclass(frozen=True, slots=True)
class Layer:
    """How well one layer tells senses apart: over all pairs, by language, and ``across`` words, as one threshold for all of them would."""

    name: str
    overall: Auc
    languages: Mapping[str, Auc]
    across: Auc


@dataclass(frozen=True, slots=True)
class Study:
    """One model: each layer, the vector of the whole sentence, and the shown word's places in the plane.

    ``planes``: the first and the last layer (one, where there is only one) -> ``(occurrences, 2)``, in the order of ``Senses.shown``.
    """

    spec: str
    layers: tuple[Layer, ...]
    text: Layer
    planes: Mapping[str, Floats]

    @property
    def best(self) -> Layer:
        """The layer with the highest AUC, the first of equals. Being the best of several, it is flattered."""
        return max(self.layers, key=lambda layer: layer.overall.value)

    @property
    def static(self) -> bool:
        """Whether a token has the same vector in every sentence."""
        return len(self.layers) == 1


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A word in a sentence, from one character to another, and the sense it has there."""

    sentence: str
    start: int
    end: int
    sense: str


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a model ranks documents: the mean of a measure with its 95 % interval, of which cell, on which dataset."""

    cell: str
    measure: str
    dataset: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Senses:
    """What ``bakeoff senses`` found: a study a model, those that could not be studied, the shown word, and ranking quality by model."""

    pairs: tuple[SensePair, ...]
    word: str
    shown: tuple[Occurrence, ...]
    studies: tuple[Study, ...]
    absences: tuple[Absence, ...] = ()
    quality: Mapping[str, Quality] | None = None

    @property
    def languages(self) -> list[str]:
        """The languages of the pairs, in their order."""
        return list(dict.fromkeys(pair.language for pair in self.pairs))


def read(path: Path | None = None) -> tuple[SensePair, ...]:
    """Read pairs, a JSON object a line; without a path those that come with bakeoff. Raises DatasetError with file and line."""
    path = path or shipped.root() / "senses" / "pairs.jsonl"
    found: list[SensePair] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(_checked(msgspec.json.decode(line, type=SensePair)))
        except (msgspec.MsgspecError, DatasetError) as error:
            raise DatasetError(f"{path}:{number}: {error}") from None
    kinds = {(pair.language, pair.word, pair.same) for pair in found}
    if not any((language, word, not same) in kinds for language, word, same in kinds):
        raise DatasetError(f"{path}: no word has both a pair of the same sense and one of different senses, so nothing can be compared")
    return tuple(found)


def _checked(pair: SensePair) -> SensePair:
    if pair.same != (pair.senses[0] == pair.senses[1]):
        raise DatasetError(f"same is {str(pair.same).lower()}, but the senses are {pair.senses[0]!r} and {pair.senses[1]!r}")
    for sentence in (pair.first, pair.second):
        _place(pair.word, sentence)
    return pair


def _place(word: str, sentence: str) -> tuple[int, int]:
    """The characters at which a word begins and ends: by itself, or, as where no blanks are written, anywhere."""
    alone = [found.start() for found in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", sentence)]
    places = alone or [found.start() for found in re.finditer(re.escape(word), sentence)]
    if len(places) != 1:
        raise DatasetError(f"{word!r} should stand in {sentence!r} once, written so, but does {len(places)} times")
    return places[0], places[0] + len(word)


def occurrences(pairs: Sequence[SensePair], word: str | None = None) -> tuple[Occurrence, ...]:
    """Every sentence of a word; without one, of the word with the most. Raises DatasetError for a word there are no pairs of."""
    found: dict[str, dict[str, Occurrence]] = {}
    for pair in pairs:
        for sentence, sense in zip((pair.first, pair.second), pair.senses, strict=True):
            found.setdefault(pair.word, {})[sentence] = Occurrence(sentence, *_place(pair.word, sentence), sense)
    if word is None:
        return tuple(max(found.values(), key=len).values())
    if word not in found:
        raise DatasetError(f"there is no pair of the word {word!r}; there are {', '.join(found)}{nearest(word, found)}")
    return tuple(found[word].values())


def study_all(specs: Iterable[str], pairs: tuple[SensePair, ...], word: str | None = None, board: Leaderboard | None = None) -> Senses:
    """Study models one after the other; one that fails, or shows no token vectors, is an absence with the reason.

    Raises OptionError for a spec that is wrong in itself, before anything is measured.
    """
    shown = occurrences(pairs, word)
    studies, absences, loaded = [], [], {}
    for spec in dict.fromkeys(specs):
        try:
            loaded[spec] = catalog.load(spec)
        except ModelError as error:
            absences.append(Absence(spec, "failed", str(error).removeprefix(f"{spec}: ")))
    for spec, embedder in loaded.items():
        try:
            studies.append(study(spec, embedder, pairs, shown))
        except (HarnessError, ImportError, OSError, RuntimeError) as error:
            absences.append(Absence(spec, "failed", redact(str(error))))
    quality = {one.spec: found for one in studies if board and (found := quality_of(board, one.spec))}
    named = shown[0].sentence[shown[0].start : shown[0].end]
    return Senses(pairs, named, shown, tuple(studies), tuple(absences), quality if board else None)


def study(spec: str, embedder: object, pairs: Sequence[SensePair], shown: Sequence[Occurrence]) -> Study:
    """Study one model. Raises ModelError where it shows no token vectors, or cuts a sentence off before the word."""
    if not (isinstance(embedder, TokenEmbedder) and isinstance(embedder, Embedder)):
        raise ModelError("shows no vectors of single tokens; models that run here do: st/, hf/, packaged/, wordllama/, static/, elmo/")
    embedder.prepare()
    places = {o.sentence: (o.start, o.end) for pair in pairs for o in occurrences([pair])}
    sentences = list(places)
    row = {sentence: at for at, sentence in enumerate(sentences)}
    words = np.stack(  # (sentences, layers, dim)
        [
            _of_word(one.offsets, one.vectors, *places[text], text)
            for text, one in zip(sentences, embedder.token_vectors(sentences), strict=True)
        ]
    )
    whole = embedder.embed([Item(sentence) for sentence in sentences], "document").vectors  # (sentences, dim)
    ends = np.array([[row[pair.first], row[pair.second]] for pair in pairs])  # (pairs, 2)
    names = embedder.layers()
    layers = [_layer(name, pairs, cosines(words[ends[:, 0], at], words[ends[:, 1], at])) for at, name in enumerate(names)]
    text = _layer(TEXT, pairs, cosines(whole[ends[:, 0]], whole[ends[:, 1]]))
    seen = words[[row[occurrence.sentence] for occurrence in shown]]  # (occurrences, layers, dim)
    return Study(spec, tuple(layers), text, {names[at]: plane(seen[:, at]) for at in dict.fromkeys((0, len(names) - 1))})


def _of_word(offsets: NDArray[np.int64], vectors: NDArray[np.float32], start: int, end: int, sentence: str) -> NDArray[np.float32]:
    """The mean vector ``(layers, dim)`` of the tokens that share a character with the word."""
    begins, ends = offsets.T
    inside = (begins < end) & (ends > start) & (ends > begins)
    if not inside.any():
        raise ModelError(f"has no token for {sentence[start:end]!r} in {sentence!r}, or cuts the sentence off before it")
    return np.asarray(vectors[:, inside].mean(axis=1))


def cosines(ones: NDArray[Any], others: NDArray[Any]) -> Floats:
    """Cosines of the rows of two matrices ``(n, dim)``, in float64 and rounded, so that equal vectors give 1 exactly."""
    left, right = ones.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.round((left * right).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny), _DECIMALS))


def _layer(name: str, pairs: Sequence[SensePair], scores: Floats) -> Layer:
    same = np.array([pair.same for pair in pairs], dtype=np.bool_)
    words = [(pair.language, pair.word) for pair in pairs]
    languages = {}
    for language in dict.fromkeys(pair.language for pair in pairs):
        rows = [at for at, pair in enumerate(pairs) if pair.language == language]
        languages[language] = within_words(scores[rows], same[rows], [words[at] for at in rows])
    return Layer(name, within_words(scores, same, words), languages, across_words(scores, same, words))


def area(scores: Floats, same: NDArray[np.bool_]) -> float:
    """The AUC of ``same`` by ``scores``, both ``(pairs,)``: Mann-Whitney's U over its most, ties counted half; NaN without both kinds."""
    wins = _wins(scores, same)
    return float(wins.mean()) if wins.size else np.nan


def within_words(scores: Floats, same: NDArray[np.bool_], words: Sequence[Word], seed: int = 0) -> Auc:
    """The AUC over comparisons of pairs of the same word; ``words`` ``(pairs,)`` are language and word.

    The interval is a percentile bootstrap that draws words, not pairs, since those of one word share sentences; language by language,
    since the mix of languages is chosen and not drawn.
    """
    won: dict[Word, tuple[float, int]] = {}
    for word in dict.fromkeys(words):
        rows = np.array([one == word for one in words])
        wins = _wins(scores[rows], same[rows])
        if wins.size:
            won[word] = (float(wins.sum()), wins.size)
    if not won:
        return Auc(np.nan, np.nan, np.nan, 0, 0)
    sums = np.array(list(won.values()))  # (words, 2): comparisons won, comparisons
    drawn = _draws([language for language, _ in won], seed) @ sums  # (resamples, 2)
    return _auc(float(sums[:, 0].sum() / sums[:, 1].sum()), drawn[:, 0] / drawn[:, 1], sum(word in won for word in words), len(won))


def across_words(scores: Floats, same: NDArray[np.bool_], words: Sequence[Word], seed: int = 0) -> Auc:
    """The AUC over comparisons of all pairs with all, of whatever word; the interval draws words as that of ``within_words`` does."""
    known = list(dict.fromkeys(words))
    if same.all() or not same.any():
        return Auc(np.nan, np.nan, np.nan, len(same), len(known))
    place = {word: at for at, word in enumerate(known)}
    weights = _draws([language for language, _ in known], seed)[:, [place[word] for word in words]]  # (resamples, pairs)
    counted = weights[:, same].sum(axis=1) * weights[:, ~same].sum(axis=1)
    won = ((weights[:, same] @ _wins(scores, same)) * weights[:, ~same]).sum(axis=1)
    return _auc(area(scores, same), won[counted > 0] / counted[counted > 0], len(same), len(known))


def _wins(scores: Floats, same: NDArray[np.bool_]) -> Floats:
    """1 where a pair of the same sense is more alike than one of different senses, 0.5 where they tie: ``(same, other)``."""
    return np.asarray(np.sign(scores[same][:, None] - scores[~same]) / 2 + 0.5)


def _auc(value: float, resampled: Floats, pairs: int, words: int) -> Auc:
    low, high = np.quantile(resampled, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Auc(value, float(low), float(high), pairs, words)


def _draws(strata: Sequence[str], seed: int) -> Floats:
    """How often each word is drawn, ``(resamples, words)``: within its language as many words as there are."""
    random = np.random.default_rng(seed)
    counts = np.empty((_RESAMPLES, len(strata)))
    for stratum in dict.fromkeys(strata):
        members = np.array([at for at, one in enumerate(strata) if one == stratum])
        counts[:, members] = random.multinomial(len(members), np.full(len(members), 1 / len(members)), size=_RESAMPLES)
    return counts


def plane(vectors: NDArray[Any]) -> Floats:
    """The directions of vectors ``(n, dim)``, seen from where they spread most, ``(n, 2)``.

    Principal components of unit vectors, each with its largest part positive, so that the same vectors are drawn the same way.
    """
    rows = vectors.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    left, sizes, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    points = np.zeros((len(rows), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = (left * sizes * signs)[:, :kept]
    return np.round(points, _DECIMALS)


def quality_of(board: Leaderboard, spec: str) -> Quality | None:
    """The ranking quality of a model at its native dimension, by nDCG@10 where that was measured; None where the model was not."""
    cells = [result for result in board.results if result.spec == spec]
    if not cells:
        return None
    cell = max(cells, key=lambda result: result.dim)
    measure = "ndcg@10" if "ndcg@10" in cell.scores else board.headline
    ((low, high),) = stats.intervals(cell.scores[measure][:, None])
    return Quality(cell.name, measure, str(board.dataset["name"]), cell.mean(measure), float(low), float(high))
