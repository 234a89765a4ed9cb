"""The same word in two sentences: the data, the measure, the models' token vectors, the command and its page."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE, made, needs_chromium, opened
from scipy.stats import mannwhitneyu

import harness.shipped
from harness import catalog, senses
from harness.cli import main
from harness.embedder import Embedded, Item, Model, Role, TokenEmbedder, TokenVectors
from harness.errors import DatasetError, ModelError
from harness.senses import SensePair
from reports import senses as report

PAIRS = senses.read()
STATIC = "wordllama/256"
MINILM = "packaged/all-MiniLM-L6-v2"


class Toy:
    """Two layers: in the first each word has one vector, in the second it also leans to the word in front of it."""

    batch = 8

    def __init__(self, dim: int = 32) -> None:
        self.model = Model(provider="toy", name="x", revision="1", dim=dim)

    def prepare(self) -> None: ...

    def layers(self) -> tuple[str, ...]:
        return ("input", "1")

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        found = []
        for text in texts:
            spans = [match.span() for match in re.finditer(r"\w+", text)]
            static = np.array([self._of(text[start:end]) for start, end in spans], dtype=np.float32)
            leaning = static + np.concatenate([np.zeros_like(static[:1]), static[:-1]])
            offsets = np.array([(0, 0), *spans], dtype=np.int64)  # a special token in front
            found.append(TokenVectors(offsets, np.stack([np.vstack([np.full_like(one[:1], 9), one]) for one in (static, leaning)])))
        return found

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        vectors = [self.token_vectors([item.text])[0].vectors[0, 1:].mean(axis=0) for item in items]
        return Embedded(np.array(vectors, dtype=np.float32), np.ones(len(items), dtype=np.int64))

    def _of(self, word: str) -> np.ndarray:
        return np.random.default_rng(sum(map(ord, word))).normal(size=self.model.dim)


def pair(first: str, second: str, one: str = "a", other: str = "a", word: str = "bow", language: str = "en") -> SensePair:
    return SensePair(word, language, one == other, first, second, (one, other))


LEANING = (  # same sense: the same word in front
    pair("tie the red bow now", "a red bow here"),
    pair("his long bow broke", "one long bow shot", "b", "b"),
    pair("tie the red bow now", "his long bow broke", "a", "b"),
    pair("a red bow here", "one long bow shot", "a", "b"),
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = Toy()
    real = catalog.load
    monkeypatch.setattr(catalog, "load", lambda spec: made if spec == "toy/x" else real(spec))
    return made


def bakeoff(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["senses", *map(str, words)])


def write(path: Path, pairs: Sequence[Any]) -> Path:
    keys = ("word", "language", "same", "first", "second", "senses")
    lines = [json.dumps(one if isinstance(one, dict) else {key: getattr(one, key) for key in keys}) for one in pairs]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# the data


def test_the_set_is_large_balanced_and_in_several_languages() -> None:
    assert len(PAIRS) >= 160
    assert sum(one.same for one in PAIRS) * 2 == len(PAIRS)
    assert {"en", "de", "es", "fr"} <= {one.language for one in PAIRS}
    kinds = Counter((one.language, one.word, one.same) for one in PAIRS)
    assert all(kinds[language, word, True] == kinds[language, word, False] for language, word, _ in kinds)
    assert len({frozenset((one.first, one.second)) for one in PAIRS}) == len(PAIRS)


def test_a_sentence_has_one_sense_and_does_not_begin_with_the_word() -> None:
    noted: dict[str, set[tuple[str, str]]] = {}
    for one in PAIRS:
        for sentence, sense in zip((one.first, one.second), one.senses, strict=True):
            noted.setdefault(sentence, set()).add((one.word, sense))
            assert sentence.count(one.word) == 1
            assert one.language == "zh" or sentence[sentence.index(one.word) - 1] == " "
            assert not sentence.startswith(one.word)
    assert all(len(notes) == 1 for notes in noted.values())


def test_the_card_counts_what_is_there_and_it_is_no_retrieval_dataset() -> None:
    card = (harness.shipped.root() / "senses" / "README.md").read_text(encoding="utf-8")
    pairs = Counter(one.language for one in PAIRS)
    words = Counter(language for language, _ in {(one.language, one.word) for one in PAIRS})
    rows = re.findall(r"^\| ([A-Z]\w+) \| (\d+) \| (\d+) \|$", card, re.MULTILINE)
    assert [(int(a), int(b)) for _, a, b in rows] == [(words[one], pairs[one]) for one in pairs]
    assert f"{len(PAIRS)} pairs" in card
    assert "senses" not in harness.shipped.names()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"same": False}, "same is false, but the senses are 'a' and 'a'"),
        ({"senses": ["a", "b"]}, "same is true, but the senses are 'a' and 'b'"),
        ({"first": "no such word"}, "'bow' should stand in 'no such word' once, written so, but does 0 times"),
        ({"second": "bow to bow"}, "'bow' should stand in 'bow to bow' once, written so, but does 2 times"),
        ({"word": ""}, r"Expected `str` of length >= 1 - at `\$.word`"),
        ({"sense": "x"}, "Object contains unknown field `sense`"),
        ({"language": 3}, r"Expected `str`, got `int` - at `\$.language`"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    line = {"word": "bow", "language": "en", "same": True, "first": "a red bow", "second": "the bow", "senses": ["a", "a"]} | change
    file = write(tmp_path / "mine.jsonl", [LEANING[0], line])
    with pytest.raises(DatasetError, match=rf"^{file}:2: {said}"):
        senses.read(file)


def test_a_file_that_compares_nothing_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", [LEANING[0], pair("his bat broke", "a bat flew", "a", "b", word="bat")])
    with pytest.raises(DatasetError, match="no word has both a pair of the same sense and one of different senses"):
        senses.read(file)
    with pytest.raises(DatasetError, match=r"none\.jsonl: cannot be read"):
        senses.read(tmp_path / "none.jsonl")


def test_a_word_inside_another_does_not_count_where_it_stands_alone() -> None:
    first, _ = senses.occurrences([pair("the rainbow over a bow", "a red bow")])
    assert (first.start, first.end) == (19, 22)


# the measure


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_area_is_mann_whitneys_u_over_its_most(rows: list[tuple[int, bool]]) -> None:
    scores, same = np.array([score for score, _ in rows], dtype=float), np.array([kind for _, kind in rows])
    if same.all() or not same.any():
        assert np.isnan(senses.area(scores, same))
    else:
        u = mannwhitneyu(scores[same], scores[~same], method="asymptotic").statistic
        assert senses.area(scores, same) == pytest.approx(u / (same.sum() * (~same).sum()))


def test_areas_by_hand() -> None:
    same = np.array([True, True, False, False])
    words = [("en", "bow"), ("en", "bat"), ("en", "bow"), ("en", "bat")]
    assert senses.area(np.array([0.9, 0.5, 0.5, 0.1]), same) == (1 + 1 + 0.5 + 1) / 4
    assert senses.within_words(np.array([0.5, 0.9, 0.6, 0.1]), same, words).value == 0.5  # bow loses, bat wins
    across = senses.across_words(np.array([0.5, 0.9, 0.6, 0.1]), same, words)
    assert across.value == (0 + 1 + 1 + 1) / 4
    assert (across.pairs, across.words) == (4, 2)


def test_how_alike_a_words_vectors_are_at_all_changes_nothing_within_words() -> None:
    rng = np.random.default_rng(0)
    same = np.arange(40) % 2 == 0
    words = [("en", f"w{at // 4}") for at in range(40)]
    scores = rng.normal(size=40)
    shifted = scores + np.repeat(rng.normal(size=10) * 100, 4)
    assert senses.within_words(shifted, same, words) == senses.within_words(scores, same, words)
    assert senses.across_words(shifted, same, words) != senses.across_words(scores, same, words)


def test_equal_scores_are_half_whatever_is_drawn() -> None:
    same, words = np.arange(12) % 2 == 0, [("en", f"w{at // 4}") for at in range(12)]
    for found in (senses.within_words(np.ones(12), same, words), senses.across_words(np.ones(12), same, words)):
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_an_interval_holds_its_promise_and_is_repeatable() -> None:
    """Of 100 samples of 40 words from one distribution, about 95 % of the intervals hold the truth."""
    rng = np.random.default_rng(1)
    same, words = np.tile([True, True, False, False], 40), [("en", f"w{at // 4}") for at in range(160)]
    truth = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt(2))
    held = 0
    for _ in range(100):
        scores = rng.normal(size=160) + same + np.repeat(rng.normal(size=40), 4)
        found = senses.within_words(scores, same, words)
        held += found.low <= truth <= found.high
    assert 89 <= held <= 99
    assert found == senses.within_words(scores, same, words)
    assert not found.rough
    assert senses.within_words(scores[:20], same[:20], words[:20]).rough


def test_a_word_without_both_kinds_compares_nothing() -> None:
    found = senses.within_words(np.array([1.0, 0.0, 5.0]), np.array([True, False, True]), [("en", "a"), ("en", "a"), ("en", "b")])
    assert (found.value, found.pairs, found.words) == (1.0, 2, 1)
    assert np.isnan(senses.within_words(np.ones(1), np.array([True]), [("en", "a")]).value)
    assert np.isnan(senses.across_words(np.ones(1), np.array([True]), [("en", "a")]).value)


def test_cosines_of_equal_vectors_are_one_exactly() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 48)).astype(np.float32)
    assert (senses.cosines(rows, rows * 3) == 1).all()
    np.testing.assert_allclose(senses.cosines(rows[:1], rows[1:2]), np.corrcoef(rows[0] - 0, rows[1])[0, 1], atol=0.1)
    assert senses.cosines(np.zeros((1, 3)), np.ones((1, 3))) == 0


def test_the_plane_keeps_distances_of_flat_vectors_and_its_sides() -> None:
    angles = np.array([0.0, 0.1, 1.0, 1.1])
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], axis=1)
    points = senses.plane(vectors * [[1], [5], [2], [7]])  # lengths do not count
    np.testing.assert_allclose(np.linalg.norm(points[0] - points[2]), np.linalg.norm(vectors[0] - vectors[2]), atol=1e-8)
    np.testing.assert_array_equal(points, senses.plane(vectors))
    assert not senses.plane(np.ones((5, 3))).any()
    assert senses.plane(np.ones((1, 1))).shape == (1, 2)


# the models


def test_a_layer_that_sees_context_tells_senses_apart_and_one_that_does_not_ties(toy: Toy) -> None:
    found = senses.study_all(["toy/x"], LEANING)
    (study,) = found.studies
    assert [layer.overall.value for layer in study.layers] == [0.5, 1.0]
    assert [layer.name for layer in study.layers] == ["input", "1"]
    assert study.best.name == "1"
    assert list(study.planes) == ["input", "1"]
    assert not study.planes["input"].any()
    assert study.planes["1"].any()
    assert (found.word, len(found.shown)) == ("bow", 4)


@pytest.fixture(scope="module")
def static() -> senses.Senses:
    return senses.study_all([STATIC], PAIRS)


def test_static_vectors_are_at_one_half_by_construction(static: senses.Senses) -> None:
    (study,) = static.studies
    (layer,) = study.layers
    for area in (layer.overall, layer.across, *layer.languages.values()):
        assert (area.value, area.low, area.high) == (0.5, 0.5, 0.5)
    assert study.static
    assert not study.planes["static"].any()


def test_static_text_vectors_are_the_mean_of_their_token_vectors() -> None:
    embedder = catalog.load(STATIC)
    embedder.prepare()
    text = "We tied the canoe to a willow."
    (one,) = embedder.token_vectors([text])
    assert embedder.layers() == ("static",)
    np.testing.assert_allclose(one.vectors[0].mean(axis=0), embedder.embed([Item(text)], "document").vectors[0], atol=1e-5)
    assert "".join(text[start:end] for start, end in one.offsets).replace(" ", "") == text.replace(" ", "")


def test_minilm_tells_english_senses_apart_and_its_last_layer_is_what_is_pooled() -> None:
    english = tuple(one for one in PAIRS if one.language == "en")
    (study,) = senses.study_all([MINILM], english).studies
    assert [layer.name for layer in study.layers] == ["input", "1", "2", "3", "4", "5", "6"]
    assert study.layers[-1].overall.value == pytest.approx(0.75, abs=0.02)
    assert study.layers[-1].overall.low > 0.5
    assert study.layers[0].overall.low < 0.5 < study.layers[0].overall.high  # it knows the place in the sentence, not the sense
    embedder = catalog.load(MINILM)
    embedder.prepare()
    texts = ["A single palm gave shade.", "Short."]
    for text, one in zip(texts, embedder.token_vectors(texts), strict=True):
        mean = one.vectors[-1].mean(axis=0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), embedder.embed([Item(text)], "document").vectors[0], atol=1e-5)
        assert text[slice(*one.offsets[1])] == text.split(" ", maxsplit=1)[0].rstrip(".")
        assert one.vectors.shape == (7, len(one.offsets), 384)


def test_hidden_states_are_the_same_with_padding_and_without() -> None:
    embedder = catalog.load(MINILM)
    embedder.prepare()
    first = embedder._first()
    texts = ["A single palm gave shade to the whole beach bar.", "Short."]
    padded = embedder.token_vectors(texts)
    pad, first.tokenizer.pad_token = first.tokenizer.pad_token, None
    alone = embedder.token_vectors(texts)
    first.tokenizer.pad_token = pad
    for one, other in zip(padded, alone, strict=True):
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-4)


def test_a_model_that_cuts_the_word_off_says_so() -> None:
    long = "word " * 20
    pairs = [pair(f"a {long} bow", "a bow"), pair("one bow", "the bow", "a", "b")]
    with pytest.raises(ModelError, match=r"has no token for 'bow' in 'a word .*', or cuts the sentence off before it"):
        senses.study("x", catalog.load(f"{MINILM}?max_tokens=12"), pairs, senses.occurrences(pairs))


def test_what_shows_no_tokens_is_an_absence_and_the_others_go_on() -> None:
    found = senses.study_all(["bm25", "hash/64", STATIC, "st/no/such"], PAIRS[:8])
    assert [one.spec for one in found.studies] == [STATIC]
    assert {one.spec: one.reason.partition(";")[0] for one in found.absences if one.spec != "st/no/such"} == {
        "bm25": "shows no vectors of single tokens",
        "hash/64": "shows no vectors of single tokens",
    }
    assert not isinstance(catalog.load("hash/64"), TokenEmbedder)
    assert isinstance(catalog.load(STATIC), TokenEmbedder)


# the command and its page


def test_the_command_prints_a_row_a_layer_and_writes_the_page(toy: Toy, tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", LEANING)
    done = bakeoff("-m", "toy/x", "-m", "bm25", "--pairs", file, "--out", tmp_path / "o")
    assert done.exit_code == 1
    assert re.search(r"toy/x +│ input +│ 0\.500 \(0\.50–0\.50\)~ │ 0\.500", done.stdout)
    assert re.search(r"│ +│ 1 +│ 1\.000 \(1\.00–1\.00\)~ │ 1\.000", done.stdout)
    assert "whole text" in done.stdout
    assert "the last layer of toy/x tells the senses of a word apart in 100 % of comparisons" in done.stdout
    assert "failed: bm25: shows no vectors of single tokens" in done.stdout
    said = json.loads((tmp_path / "o" / "senses.json").read_text())
    assert said["studies"][0]["layers"][1]["overall"] == {"value": 1.0, "low": 1.0, "high": 1.0, "pairs": 4, "words": 1}
    assert bakeoff("-m", "toy/x", "--pairs", file, "--out", tmp_path / "o").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--word", "sprung"], "no pair of the word 'sprung'; there are spring, bank, .* - did you mean 'spring'"),
        (["--pairs", "none.jsonl"], "none.jsonl: cannot be read"),
        (["--in", "nowhere"], "no such file; bakeoff eval makes"),
        (["-m", "wordlama/256"], "did you mean 'wordllama'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = bakeoff("-m", "hash/8", *words)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert re.search(said, done.stderr)
    assert not list(tmp_path.iterdir())


def test_ranking_quality_stands_beside_it_where_it_was_measured(toy: Toy) -> None:
    board = made(specs=("toy/x", "made/other"))
    found = senses.study_all(["toy/x", STATIC], LEANING, board=board)
    quality = (found.quality or {})["toy/x"]
    native = next(result for result in board.results if result.name == "toy/x @ 128")
    assert (quality.cell, quality.measure, quality.mean) == ("toy/x @ 128", "ndcg@10", native.mean("ndcg@10"))
    assert quality.low < quality.mean < quality.high
    page = report.html(found)
    assert "ndcg@10 on made" in page
    assert page.count("not measured") == 1
    both = senses.study_all(["toy/x", STATIC], LEANING, board=made(specs=(STATIC, "toy/x")))
    assert "By ndcg@10 on made they stand in another order: wordllama/256, toy/x." in " ".join(report.sentences(both))


def test_the_page_is_the_same_bytes_and_asks_for_nothing(toy: Toy) -> None:
    found = senses.study_all(["toy/x", STATIC], LEANING)
    page = report.html(found)
    assert report.html(senses.study_all(["toy/x", STATIC], LEANING)) == page
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    assert "default-src 'none'" in page


@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_reads_well_whatever_a_user_wrote(toy: Toy, tmp_path: Path, width: int) -> None:
    hostile = [pair(f"{one.first} {HOSTILE}", f"{one.second} {HOSTILE}", *one.senses) for one in LEANING]
    found = senses.study_all(["toy/x", STATIC, "bm25"], tuple(hostile))
    path = report.write(found, tmp_path)[report.PAGE]
    with opened(path, viewport={"width": width, "height": 900}) as page:
        assert page.title() == "Senses of words in context – bakeoff"
        assert page.locator("#layers tbody").count() == 2
        assert page.locator("#sentences tbody tr").count() == 4
        assert page.locator("#sentences strong").first.inner_text() == "bow"
        assert page.locator("svg[role=img]").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        from axe_playwright_python.sync_playwright import Axe

        assert [one["id"] for one in Axe().run(page).response["violations"]] == []
