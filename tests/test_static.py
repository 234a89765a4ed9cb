"""Word vectors: every format gives what was written into it, a text is its known words' mean, and what is wrong is named by its line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from loaders import vectors_file
from test_senses import LEANING

from harness import catalog, senses
from harness.embedder import Embedder, Item, TokenEmbedder
from harness.errors import ModelError, OptionError
from providers import static

TABLE = {
    "the": [1, 0, 0],
    "cat": [0, 2, 0],
    "Paris": [0, 0, 4],
    "sat": [-1, -1, 0.5],
    "don't": [3, 1, 1],
    "self": [0.25, 0, 1],
    "made": [5, 5, 5],
}
TABLE |= {"睡": [1, 1, 1], "睡觉": [7, 0, 0], "猫": [0, 7, 0]}
VECTORS = {word: np.array(vector, dtype=np.float32) for word, vector in TABLE.items()}
LINES = [" ".join([word, *map(str, vector)]) for word, vector in TABLE.items()]


def glove(path: Path) -> None:
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")


def headed(path: Path) -> None:
    path.write_text("\n".join([f"{len(TABLE)} 3", *(f"{line} " for line in LINES)]) + "\n", encoding="utf-8")


def binary(path: Path, between: bytes = b"\n") -> None:
    rows = b"".join(word.encode() + b" " + vector.astype("<f4").tobytes() + between for word, vector in VECTORS.items())
    path.write_bytes(f"{len(TABLE)} 3\n".encode() + rows)


def ready(path: Path, options: str = "") -> Embedder:
    embedder = catalog.load(f"static/{path}{options}")
    embedder.prepare()
    return embedder


def vectors(embedder: Embedder, *texts: str) -> np.ndarray:
    return embedder.embed([Item(text) for text in texts], "document").vectors


@pytest.fixture
def embedder(tmp_path):
    glove(tmp_path / "v.txt")
    return ready(tmp_path / "v.txt")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("name", "write"),
    [("v.txt", glove), ("v.vec", headed), ("v.bin", binary), ("w.bin", lambda path: binary(path, b""))],
)
def test_every_format_gives_what_was_written(tmp_path, name, write, zipped):
    path = tmp_path / name
    write(path)
    if zipped:
        whole, path = path.read_bytes(), tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(whole))
    embedder = ready(path)
    assert (embedder.model.dim, embedder.model.pooling) == (3, "mean")
    np.testing.assert_array_equal(vectors(embedder, *VECTORS), list(VECTORS.values()))


def test_a_text_is_the_mean_of_its_known_words_each_as_often_as_it_comes(embedder):
    found = embedder.embed([Item("The cat, the unheard-of cat sat!")], "document")
    assert found.tokens.tolist() == [5]
    np.testing.assert_allclose(found.vectors[0], (2 * VECTORS["the"] + 2 * VECTORS["cat"] + VECTORS["sat"]) / 5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CAT", ["cat"]),
        ("Paris", ["Paris"]),
        ("paris", []),
        ("Don’t", ["don't"]),
        ("self-made", ["self", "made"]),
        ("the/cat.", ["the", "cat"]),
        ("猫睡觉", ["猫", "睡觉"]),
        ("猫在睡", ["猫", "睡"]),
    ],
)
def test_words_are_found_as_written_else_in_lower_case_else_in_parts(embedder, text, words):
    found = embedder.embed([Item(text)], "document")
    assert found.tokens.tolist() == [len(words)]
    if words:
        np.testing.assert_allclose(found.vectors[0], np.mean([VECTORS[word] for word in words], axis=0))


@pytest.mark.parametrize("options", ["", "?weighting=sif"])
def test_token_vectors_are_what_the_mean_is_made_of_at_the_characters_of_their_words(tmp_path, options):
    glove(tmp_path / "v.txt")
    embedder = ready(tmp_path / "v.txt", options)
    assert isinstance(embedder, TokenEmbedder)
    assert embedder.layers() == ("static",)
    text = "Unheard: The self-made CAT, Don’t 猫在睡觉 ... 睡"
    found, nothing = embedder.token_vectors([text, "plugh"])
    words = ["the", "self", "made", "cat", "don't", "猫", "睡觉", "睡"]
    assert [text[start:end].lower().replace("’", "'") for start, end in found.offsets] == words
    weights = static.sif(len(TABLE)) if options else np.ones(len(TABLE))
    expected = [weights[list(TABLE).index(word)] * VECTORS[word] for word in words]
    np.testing.assert_allclose(found.vectors, [expected], rtol=1e-6)
    np.testing.assert_allclose(found.vectors[0].mean(axis=0), vectors(embedder, text)[0], rtol=1e-5)
    assert (found.vectors.dtype, nothing.vectors.shape, nothing.offsets.shape) == (np.float32, (1, 0, 3), (0, 2))


def test_senses_takes_word_vectors_and_finds_them_at_one_half(tmp_path):
    words = sorted({word for pair in LEANING for word in f"{pair.first} {pair.second}".split()})
    vectors_file(tmp_path / "v.vec", words)
    found = senses.study_all([f"static/{tmp_path / 'v.vec'}"], LEANING)
    assert not found.absences
    (study,) = found.studies
    assert [(layer.name, layer.overall.value) for layer in study.layers] == [("static", 0.5)]


def test_of_a_text_without_any_known_word_nothing_is_known(tmp_path):
    vectors_file(tmp_path / "v.vec", dim=300)
    embedder = ready(tmp_path / "v.vec")
    found = embedder.embed([Item("xyzzy"), Item("plugh"), Item("xyzzy"), Item("the cat sleeps")], "query")
    assert found.tokens.tolist() == [0, 0, 0, 3]
    unit = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    np.testing.assert_array_equal(unit[0], unit[2])
    assert abs(unit @ unit[0])[[1, 3]].max() < 0.2  # near to nothing: five standard deviations are 5 / sqrt(300)


def test_sif_by_hand(tmp_path):
    glove(tmp_path / "v.txt")
    weighed, plain = ready(tmp_path / "v.txt", "?weighting=sif"), ready(tmp_path / "v.txt")
    harmonic = sum(1 / rank for rank in range(1, len(TABLE) + 1))
    the, sat = (1e-3 / (1e-3 + 1 / rank / harmonic) for rank in (1, 4))
    np.testing.assert_allclose(vectors(weighed, "the sat")[0], (the * VECTORS["the"] + sat * VECTORS["sat"]) / 2, rtol=1e-6)
    assert static.sif(9).argsort().tolist() == list(range(9))  # the rarer, the heavier
    assert weighed.model.digest() != plain.model.digest()
    with pytest.raises(OptionError, match="weighting 'idf' is not known; there is sif"):
        catalog.load(f"static/{tmp_path / 'v.txt'}?weighting=idf")


def test_a_file_is_known_by_its_content(tmp_path):
    glove(tmp_path / "v.txt")
    before = catalog.load(f"static/{tmp_path / 'v.txt'}").model.digest()
    (tmp_path / "v.txt").write_text((tmp_path / "v.txt").read_text().replace("5 5 5", "5 5 6"))
    assert catalog.load(f"static/{tmp_path / 'v.txt'}").model.digest() != before


def test_loading_reads_no_more_than_the_first_line(tmp_path):
    (tmp_path / "v.txt").write_text("the 1 2 3\ncat nothing\n")
    assert catalog.load(f"static/{tmp_path / 'v.txt'}").model.dim == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 1 2\nb 3\n", "line 2: behind 'b' there should be 2 numbers, no more and no less"),
        ("a 1 2\nb 3 4 5\n", "line 2: behind 'b 3' there should be 2 numbers"),
        ("2 2\na 1 2\nb 3 x\n", "line 3: behind 'b' there should be 2 numbers"),
        ("a 1 2\n\nb nan 1\n", "line 3: the vector of 'b' holds a NaN or an infinity"),
        ("a 1 2\nb 1 inf\n", "line 2: the vector of 'b' holds a NaN"),
        ("a 1 2\nb 1 3\na 1 2\n", "line 3: the word 'a' is there already"),
        ("3 2\na 1 2\nb 1 2\n", "its first line says 3 words, but there are 2; was it cut off"),
        ("1 2\na 1 2\nb 1 2\n", "line 3: there are more than the 1 words of its first line"),
        ("9000000000000 300\na 1 2\n", "9,000,000,000,000 vectors of 300 dimensions take 10,800,000.0 GB as float32, more than the .* GB"),
        ("", "line 1: '' is neither a number of words and dimensions nor a word and its vector; static/ reads"),
        ('{"a": 1}\n', "line 1: .* is neither"),
        ("0 3\n", "line 1: 0 words of 3 dimensions cannot be"),
    ],
)
def test_a_wrong_file_is_named_by_its_line(tmp_path, text, said):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(ModelError, match=said) as caught:
        ready(tmp_path / "v.txt")
    assert str(tmp_path / "v.txt") in str(caught.value)


def test_a_word_may_hold_a_blank(tmp_path):
    (tmp_path / "v.txt").write_text("the 1 2\n. . . 3 4\nat name@domain.com 5 6\n")  # as in GloVe's 840B
    assert len(ready(tmp_path / "v.txt")._words) == 3


def test_a_cut_off_file_is_named(tmp_path):
    binary(tmp_path / "v.bin")
    whole = (tmp_path / "v.bin").read_bytes()
    (tmp_path / "v.bin").write_bytes(whole[:-20])
    with pytest.raises(ModelError, match="its first line says 10 words, but it ends in word 9; was it cut off"):
        ready(tmp_path / "v.bin")
    (tmp_path / "v.vec.gz").write_bytes(gzip.compress(("\n".join(LINES) * 5000).encode())[:-200])
    with pytest.raises(ModelError, match=r"v\.vec\.gz cannot be read: "):
        ready(tmp_path / "v.vec.gz")


def test_other_formats_are_named(tmp_path):
    (tmp_path / "cc.en.300.bin").write_bytes((793712314).to_bytes(4, "little") + b"\x0c\0\0\0")
    with pytest.raises(ModelError, match=r"is a fastText model with its n-grams; take the \.vec file"):
        catalog.load(f"static/{tmp_path / 'cc.en.300.bin'}")
    glove(tmp_path / "v.bin")
    with pytest.raises(ModelError, match=r"word2vec's \.bin begins with the number of words and dimensions"):
        catalog.load(f"static/{tmp_path / 'v.bin'}")
    with pytest.raises(OptionError, match=r"'no/such' is not a file; write static/<file>, as static/\./models/mine"):
        catalog.load("static/no/such")
