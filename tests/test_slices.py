from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from boards import cell

import harness
from harness.dataset import About, Dataset, Document, Query
from harness.slices import CODE, ENGLISH, LONG, MULTILINGUAL, MULTIMODAL, TASKS, names_code, query_languages, slices, tasks

ENGLISH_TEXT = "The harbour master explained to the passengers why the ferry would not sail before the storm was over"
GERMAN_TEXT = "Der Hafenmeister erkl\u00e4rte den Fahrg\u00e4sten, warum die F\u00e4hre vor dem Ende des Sturms nicht ablegen werde"
FRENCH_TEXT = "Le ma\u00eetre du port expliqua aux passagers pourquoi le bac ne partirait pas avant la fin de la temp\u00eate"


def corpus() -> Dataset:
    documents = [Document("short", "a harbour"), Document("middle", "sea " * 300), Document("long", "sky " * 1001)]
    queries = [
        Query("q1", "harbour", tags={"kind": "noun", "language": "en"}),
        Query("q2", "how wide is the open sea", tags={"kind": "question"}),
        Query("q3", "xyzzy", tags={"kind": "noun"}),
    ]
    qrels = {"q1": {"short": 1}, "q2": {"middle": 1, "long": 2}, "q3": {"middle": 1}}
    return Dataset.build("slices", documents, queries, qrels)


def asked(queries: Sequence[Query], documents: Sequence[Document] = (), about: About | str = "made") -> Dataset:
    """Each query has the document beside it as its answer; one of English words where none is given."""
    documents = documents or [Document(f"d{n}", f"{ENGLISH_TEXT} {n}") for n in range(len(queries))]
    return Dataset.build(about, documents, queries, {q.id: {d.id: 1} for q, d in zip(queries, documents, strict=True)})


def test_slices_by_tag_length_and_bm25() -> None:
    data = corpus()
    assert slices(data, harness.evaluate(data, ["bm25"]).results) == {
        "kind": {"noun": ("q1", "q3"), "question": ("q2",)},
        "query length": {"1 to 4 words": ("q1", "q3"), "5 to 12 words": ("q2",)},
        "answer length": {"up to 256 words": ("q1",), "257 to 1,000 words": ("q3",), "over 1,000 words": ("q2",)},
        "BM25": {"finds it in 10": ("q1", "q2"), "misses it in 10": ("q3",)},
    }  # one value of a tag (language) is no slice
    assert "BM25" not in slices(data)


def test_lengths_stand_in_their_order_whatever_the_order_of_the_queries() -> None:
    data = corpus()
    assert list(slices(data)["answer length"]) == ["up to 256 words", "257 to 1,000 words", "over 1,000 words"]
    long_first = replace(data, queries=data.queries[::-1])
    assert list(slices(long_first)["query length"]) == ["1 to 4 words", "5 to 12 words"]


def test_a_model_that_cuts_some_answers_off_slices_the_queries() -> None:
    data, half = corpus(), np.full(3, 0.5)
    cut = replace(cell("st/org/short-sighted", half, dim=64), query_ids=("q1", "q2", "q3"), answer_cut=(False, True, False))
    again = replace(cut, identity="another", dim=32)
    whole = replace(cell("st/org/reads-all", half), answer_cut=(False, False, False))
    unknown = cell("st/org/unknown", half)
    found = slices(data, [cut, again, whole, unknown])
    assert found["answer cut by st/org/short-sighted"] == {"no": ("q1", "q3"), "yes": ("q2",)}
    assert [name for name in found if name.startswith("answer cut")] == ["answer cut by st/org/short-sighted"]
    everything = replace(cut, answer_cut=(True, True, True))
    assert not [name for name in slices(data, [everything]) if name.startswith("answer cut")]  # nothing to compare with


def test_slices_and_tasks_are_read_back(tmp_path: Path) -> None:
    board = harness.evaluate(corpus(), ["hash/64"], out=tmp_path)
    again = harness.load(tmp_path)
    assert (again.slices, again.tasks) == (board.slices, board.tasks)
    assert board.slices["kind"]["noun"] == ("q1", "q3")
    assert board.tasks == tasks(corpus())


def test_each_row_has_the_queries_that_speak_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    english = {"language": "en"}
    queries = [
        Query("plain", "why", tags=english),
        Query("german", "warum", tags={"language": "de"}),
        Query("both ways", "why", tags=english | {"kind": "Cross-lingual"}),
        Query("code", "why", tags=english | {"kind": "Code"}),
        Query("long code", "why", tags=english | {"kind": "code"}),
        Query("just not long", "why", tags=english),
        Query("pictured", "why", tags=english),
        Query("picture", image=tmp_path / "a.png", tags=english),
    ]
    texts = {"long code": "word " * 1001, "just not long": "word " * 1000}
    documents = [Document(q.id, texts.get(q.id, "short")) for q in queries]
    documents[6] = Document("pictured", image=tmp_path / "a.png")
    assert tasks(asked(queries, documents)) == {
        ENGLISH: ("plain", "just not long"),
        MULTILINGUAL: ("german", "both ways"),
        CODE: ("code", "long code"),
        LONG: ("long code",),
        MULTIMODAL: ("pictured", "picture"),
    }


@pytest.mark.parametrize("about", [About(name="a", task="code search"), About(name="a", tags=("Code", "python"))])
def test_a_dataset_of_code_is_all_code_unless_a_query_says_that_only_some_are(about: About) -> None:
    plain = [Query(f"q{n}", "why", tags={"language": "en"}) for n in range(3)]
    assert tasks(asked(plain, about=about)) == dict.fromkeys(TASKS, ()) | {CODE: ("q0", "q1", "q2")}
    one = [replace(plain[0], tags={"language": "en", "kind": "code"}), *plain[1:]]
    assert tasks(asked(one, about=about))[CODE] == ("q0",)
    assert tasks(asked(plain, about=replace(about, task="decoding", tags=("barcodes",))))[CODE] == ()


@pytest.mark.parametrize("about", [About(name="a", tags=("code", "english")), About(name="a", task="mixed retrieval", tags=("code",))])
def test_a_dataset_that_names_code_beside_other_things_is_not_all_code(about: About) -> None:
    plain = [Query(f"q{n}", "why", tags={"language": "en"}) for n in range(3)]
    assert tasks(asked(plain, about=about)) == dict.fromkeys(TASKS, ()) | {ENGLISH: ("q0", "q1", "q2")}


def test_a_tag_of_the_answer_says_code_and_overrules_the_datasets() -> None:
    plain = [Query(f"q{n}", "why", tags={"language": "en"}) for n in range(3)]
    documents = [Document(f"d{n}", "short", tags={"kind": "code"} if n == 1 else {}) for n in range(3)]
    for about in (About(name="a"), About(name="a", tags=("code",))):
        found = tasks(asked(plain, documents, about))
        assert (found[CODE], found[ENGLISH]) == (("q1",), ("q0", "q2"))


@pytest.mark.parametrize("word", ["code", "Code search", "text-to-code", "code, python"])
def test_code_is_heard_as_a_word(word: str) -> None:
    assert names_code({"task": word, "tags": []})
    assert names_code({"tags": [word]})
    assert not names_code({"task": "decoding", "tags": ["barcode"]})


def test_detected_languages_are_a_slice_where_no_query_is_tagged() -> None:
    texts = [ENGLISH_TEXT, GERMAN_TEXT, ENGLISH_TEXT]
    documents = [Document(f"d{n}", text) for n, text in enumerate(texts)]
    queries = [Query(f"q{n}", text) for n, text in enumerate(texts)]
    found = slices(asked(queries, documents))
    assert found["language (detected)"] == {"en": ("q0", "q2"), "de": ("q1",)}
    tagged = [replace(queries[0], tags={"lang": "en"}), *queries[1:]]
    assert "language (detected)" not in slices(asked(tagged, documents))
    alike = asked([queries[0], queries[2]], [documents[0], documents[2]])
    assert "language (detected)" not in slices(alike)  # one language is no slice


def test_the_longest_of_the_best_answers_counts_and_no_lesser_one() -> None:
    documents = [Document("a", "short"), Document("b", "word " * 1001)]
    queries = [Query("lesser", "why", tags={"language": "en"}), Query("best", "why", tags={"language": "en"})]
    data = Dataset.build("made", documents, queries, {"lesser": {"a": 2, "b": 1}, "best": {"a": 2, "b": 2}})
    assert [rows.tolist() for rows in data.judgements.best()] == [[0], [0, 1]]
    assert tasks(data)[LONG] == ("best",)


def test_a_language_is_the_tags_and_names_of_english_are_english() -> None:
    tags = [{"language": "FR"}, {"lang": "de"}, {"language": "English"}, {"language": "en-US"}, {"lang": "eng"}]
    queries = [Query(f"q{n}", GERMAN_TEXT, tags=given) for n, given in enumerate(tags)]
    assert query_languages(asked(queries)) == ["fr", "de", "en", "en", "en"]


def test_a_language_without_a_tag_is_heard_from_the_query_and_its_answer() -> None:
    texts = [ENGLISH_TEXT, GERMAN_TEXT, FRENCH_TEXT]
    long = asked([Query(f"q{n}", text) for n, text in enumerate(texts)], [Document(f"d{n}", text) for n, text in enumerate(texts)])
    assert query_languages(long) == ["en", "de", "fr"]
    short = asked([Query(f"q{n}", "taxi") for n in range(3)], [Document(f"d{n}", text) for n, text in enumerate(texts)])
    assert query_languages(short) == ["en", "de", "fr"]


def test_a_rare_language_is_taken_for_a_mistake_and_a_tagged_one_never() -> None:
    def of(count: int, tags: dict[str, str]) -> list[str]:
        documents = [Document("d0", GERMAN_TEXT), *(Document(f"d{n}", f"{ENGLISH_TEXT} {n}") for n in range(1, count))]
        queries = [Query("q0", GERMAN_TEXT, tags=tags), *(Query(f"q{n}", ENGLISH_TEXT) for n in range(1, count))]
        return query_languages(asked(queries, documents))

    assert of(50, {}) == ["de"] + ["en"] * 49  # one of 50 is 2 %
    assert of(51, {}) == ["en"] * 51
    assert of(51, {"language": "de"}) == ["de"] + ["en"] * 50


def test_pictures_without_words_are_in_no_foreign_language(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    picture = tmp_path / "a.png"
    assert query_languages(asked([Query("q", image=picture)], [Document("d", image=picture)])) == ["en"]


def test_a_users_tag_that_is_called_like_a_slice_stays_apart() -> None:
    data = corpus()
    queries = tuple(replace(query, tags={"BM25": value}) for query, value in zip(data.queries, "aab", strict=False))
    found = slices(replace(data, queries=queries))
    assert found["tag BM25"] == {"a": (queries[0].id, queries[1].id), "b": (queries[2].id,)}
    assert "BM25" not in found


@pytest.mark.parametrize("tag", ["en", "EN_us", "en-AU", "English (US)", "eng"])
def test_english_goes_by_many_names(tag: str) -> None:
    data = corpus()
    tagged = replace(data, queries=tuple(replace(query, tags={"language": tag}) for query in data.queries))
    assert set(query_languages(tagged)) == {"en"}
