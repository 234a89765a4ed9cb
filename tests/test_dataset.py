"""Reading BEIR folders, the complaints about bad ones, fingerprints, and datasets built in memory."""

from pathlib import Path

import pytest
from conftest import png

from harness import beir
from harness.dataset import About, Dataset, Document, Query
from harness.errors import DatasetError

CORPUS = (
    '{"_id": "d1", "title": "Cat", "text": "A cat sleeps."}\n'
    '{"_id": "d2", "title": null, "text": "A dog barks loudly."}\n'
    '{"_id": 3, "text": "Rain."}\n'
)
QUERIES = '{"_id": "q1", "text": "small cat", "tags": {"kind": "animal"}}\n{"_id": "q2", "text": "weather"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\t3\t1\n"
GOOD = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels/test.tsv": QRELS}


def write(folder: Path, files: dict[str, str | bytes | None]) -> Path:
    """A folder with these files; None leaves a file out."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(folder: Path, **changed: str | bytes | None) -> Dataset:
    """The good folder with some files changed, named by their stems (corpus, queries, test, dataset)."""
    names = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "test": "qrels/test.tsv", "dataset": "dataset.toml"}
    return beir.read(write(folder, GOOD | {names[key]: content for key, content in changed.items()}))


def judged(dataset: Dataset) -> dict[tuple[str, str], int]:
    found = dataset.judgements
    rows = zip(found.queries, found.documents, found.grades, strict=True)
    return {(dataset.queries[q].id, dataset.documents[d].id): int(grade) for q, d, grade in rows}


def build(documents: list[Document] | None = None, queries: list[Query] | None = None, qrels: dict | None = None, **options) -> Dataset:
    documents = [Document("a", "cat"), Document("b", "dog")] if documents is None else documents
    queries = [Query("q", "pet")] if queries is None else queries
    return Dataset.build("tiny", documents, queries, {"q": {"a": 1}} if qrels is None else qrels, **options)


def test_a_good_folder_is_read_in_full(tmp_path):
    dataset = read(tmp_path / "pets")
    assert [(d.id, d.title, d.text) for d in dataset.documents] == [
        ("d1", "Cat", "A cat sleeps."),
        ("d2", "", "A dog barks loudly."),
        ("3", "", "Rain."),
    ]
    assert [(q.id, q.text, dict(q.tags)) for q in dataset.queries] == [("q1", "small cat", {"kind": "animal"}), ("q2", "weather", {})]
    assert judged(dataset) == {("q1", "d1"): 2, ("q1", "d2"): 0, ("q2", "3"): 1}
    assert (dataset.about.name, dataset.split, dataset.left_out, dataset.skipped) == ("pets", "test", 0, 0)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"test": QRELS.partition("\n")[2]}, id="no header"),
        pytest.param({name: "\ufeff" + text for name, text in (("corpus", CORPUS), ("queries", QUERIES), ("test", QRELS))}, id="BOM"),
        pytest.param({"test": "\ufeff" + QRELS.partition("\n")[2]}, id="BOM and no header"),
        pytest.param({"corpus": CORPUS.replace("\n", "\n\n  \n"), "test": QRELS.replace("\n", "\n\n")}, id="blank lines"),
        pytest.param({"test": "\n" + QRELS}, id="blank line above the header"),
        pytest.param({"corpus": CORPUS.replace("\n", "\r\n"), "test": QRELS.replace("\n", "\r\n")}, id="CRLF"),
        pytest.param({"corpus": CORPUS.rstrip("\n"), "test": QRELS.rstrip("\n")}, id="no newline at the end"),
        pytest.param({"test": QRELS + "q1\td1\t2\n"}, id="the same judgement twice"),
        pytest.param({"queries": QUERIES + '{"_id": "q9", "text": "of another split", "more": [1]}\n'}, id="unjudged query, own field"),
    ],
)
def test_the_same_data_written_otherwise_is_the_same_dataset(tmp_path, changed):
    plain = read(tmp_path / "plain")
    other = read(tmp_path / "other", **changed)
    assert judged(other) == judged(plain)
    assert other.fingerprint == plain.fingerprint


def test_dataset_toml_says_what_the_dataset_is_and_changes_no_number(tmp_path):
    dataset = read(tmp_path, dataset='name = "pets"\ntask = "retrieval"\nlicence = "MIT"\ndescription = "x"\ntags = ["a", "b"]\n')
    assert dataset.about == About(name="pets", task="retrieval", licence="MIT", description="x", tags=("a", "b"))
    assert dataset.fingerprint == read(tmp_path / "plain").fingerprint


def test_an_image_is_found_beside_the_corpus(tmp_path):
    write(tmp_path, {"img/cat.png": png()})
    dataset = read(tmp_path, corpus=CORPUS.replace('"text": "Rain."', '"image": "img/cat.png"'))
    assert dataset.documents[2].image == tmp_path / "img/cat.png"
    assert dataset.facts()["images"] == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param({"corpus": CORPUS + '{"_id": "d4", "text":\n'}, ["corpus.jsonl:4:", "not valid JSON"], id="broken JSON"),
        pytest.param({"corpus": "_id,title,text\nd1,Cat,x\n"}, ["corpus.jsonl:1:", "looks like CSV", "JSON object"], id="CSV inside"),
        pytest.param({"queries": '["q1", "cat"]\n'}, ["queries.jsonl:1:", '{"_id": "q1", "text": "..."}'], id="a list for an object"),
        pytest.param({"corpus": CORPUS * 2}, ["corpus.jsonl:4:", "'d1'", "line 1", "unique"], id="duplicate id"),
        pytest.param({"corpus": CORPUS + '{"_id": "3", "text": "x"}'}, ["corpus.jsonl:4:", "'3'", "line 3"], id="duplicate id, 3 and '3'"),
        pytest.param({"queries": '{"text": "cat"}\n'}, ["queries.jsonl:1:", "`_id`", '{"_id": "q1"'], id="missing _id"),
        pytest.param({"corpus": '{"_id": "", "text": "cat"}\n'}, ["corpus.jsonl:1:", '"_id" is empty'], id="empty _id"),
        pytest.param({"corpus": '\n{"_id": "d1", "text": 5}\n'}, ["corpus.jsonl:2:", "`str", "$.text"], id="text is a number"),
        pytest.param(
            {"corpus": CORPUS + '{"_id": "d4", "text": " "}\n'}, ["corpus.jsonl:4:", "'d4'", "skip_empty = true"], id="empty text"
        ),
        pytest.param({"corpus": "\n"}, ["corpus.jsonl:", "no entries", '{"_id": "d1"'], id="no entries"),
        pytest.param({"corpus": CORPUS.replace("Rain", "Café").encode("latin-1")}, ["corpus.jsonl:3:", "0xe9", "UTF-8"], id="latin-1"),
        pytest.param({"test": QRELS.encode("utf-16")}, ["test.tsv:1:", "UTF-8"], id="utf-16"),
        pytest.param({"test": QRELS + "query1\td1\t1\n"}, ["test.tsv:5:", "'query1'", "queries.jsonl"], id="unknown query"),
        pytest.param({"test": QRELS + "q22\td1\t1\n"}, ["test.tsv:5:", "did you mean 'q2'"], id="nearest query"),
        pytest.param({"test": QRELS + "q1\td22\t1\n"}, ["test.tsv:5:", "corpus.jsonl", "did you mean 'd2'"], id="unknown document"),
        pytest.param({"test": QRELS + "q2\td1\t1.5\n"}, ["test.tsv:5:", "'1.5'", "integer", "0 for not relevant"], id="grade 1.5"),
        pytest.param({"test": QRELS + "q2\td1\thigh\n"}, ["test.tsv:5:", "'high'", "integer"], id="grade high"),
        pytest.param({"test": QRELS + "q2\td1\t4294967296\n"}, ["test.tsv:5:", "4294967296"], id="grade beyond 32 bits"),
        pytest.param({"test": QRELS + "q2\t0\td1\t1\n"}, ["test.tsv:5:", "4 tab-separated fields", "expected 3"], id="TREC's four fields"),
        pytest.param({"test": QRELS + "q2 d1 1\n"}, ["test.tsv:5:", "1 tab-separated fields", "expected 3"], id="blanks for tabs"),
        pytest.param({"test": QRELS + "q1\td1\t1\n"}, ["test.tsv:5:", "'q1'", "'d1'", "grade 2"], id="contradiction"),
        pytest.param({"test": "q1\td1\t0\n"}, ["test", "no query", "grade of 1 or more"], id="nothing relevant"),
        pytest.param({"test": "query-id\tcorpus-id\tscore\n"}, ["test.tsv:", "no judgements", "tab-separated"], id="only a header"),
        pytest.param({"dataset": 'licens = "MIT"\n'}, ["dataset.toml:", "'licens'", "did you mean 'licence'"], id="unknown key"),
        pytest.param({"dataset": "name = \n"}, ["dataset.toml:", "not valid TOML", "line 1"], id="broken TOML"),
        pytest.param({"dataset": 'skip_empty = "yes"\n'}, ["dataset.toml:", "skip_empty = 'yes'", "bool"], id="wrong type in TOML"),
        pytest.param({"corpus": CORPUS + '{"_id": "x", "image": "no.png"}\n'}, ["corpus.jsonl:4:", "no.png", "not exist"], id="no image"),
    ],
)
def test_a_bad_file_is_refused_with_file_line_and_fix(tmp_path, changed, said):
    with pytest.raises(DatasetError) as caught:
        read(tmp_path / "bad", **changed)
    message = str(caught.value)
    assert "\n" not in message
    assert [words for words in said if words not in message] == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        pytest.param(None, ["no such folder", "corpus.jsonl, queries.jsonl and qrels/test.tsv"], id="not there"),
        pytest.param({}, ["is empty", "corpus.jsonl"], id="empty folder"),
        pytest.param(
            GOOD | {"corpus.jsonl": None, "corpus.csv": "_id,text\n"}, ["corpus.jsonl:", "found corpus.csv", "JSON lines"], id="csv file"
        ),
        pytest.param(GOOD | {"queries.jsonl": None}, ["queries.jsonl:", "missing", '{"_id": "q1"'], id="no queries file"),
        pytest.param(
            GOOD | {"qrels/test.tsv": None, "qrels/train.tsv": "", "qrels/dev.tsv": ""}, ["test.tsv: missing", "dev, train"], id="no split"
        ),
        pytest.param(GOOD | {"qrels/test.tsv": None}, ["test.tsv: missing", "no judgements were found", "tab-separated"], id="no qrels"),
    ],
)
def test_a_bad_folder_is_refused_with_what_is_there_and_what_should_be(tmp_path, files, said):
    folder = tmp_path / "bad"
    if files is not None:
        folder.mkdir()
        write(folder, files)
    with pytest.raises(DatasetError) as caught:
        beir.read(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert [words for words in said if words not in message] == []


def test_a_file_is_not_a_dataset(tmp_path):
    write(tmp_path, {"corpus.jsonl": CORPUS})
    with pytest.raises(DatasetError, match=r"corpus\.jsonl: a file, but a dataset is a folder with corpus\.jsonl"):
        beir.read(tmp_path / "corpus.jsonl")


def test_another_split_is_read_by_name(tmp_path):
    write(tmp_path, GOOD | {"qrels/dev.tsv": "q2\t3\t1\n"})
    dataset = beir.read(tmp_path, "dev")
    assert (dataset.split, judged(dataset)) == ("dev", {("q2", "3"): 1})


def test_skip_empty_passes_over_empty_entries_and_counts_them(tmp_path):
    empty = {"corpus": CORPUS + '{"_id": "d4", "text": ""}\n', "queries": QUERIES + '{"_id": "q3", "text": null}\n'}
    dataset = read(tmp_path, dataset="skip_empty = true\n", **empty, test=QRELS + "q1\td4\t3\n")
    assert [d.id for d in dataset.documents] == ["d1", "d2", "3"]
    assert dataset.skipped == 2
    assert judged(dataset) == {("q1", "d1"): 2, ("q1", "d2"): 0, ("q2", "3"): 1}


def test_a_title_alone_is_not_empty(tmp_path):
    assert read(tmp_path, corpus=CORPUS.replace("A cat sleeps.", "")).documents[0].title == "Cat"


def test_queries_without_a_relevant_document_are_left_out_and_counted(tmp_path):
    queries = QUERIES + '{"_id": "q3", "text": "x"}\n{"_id": "q4", "text": "not judged: of another split"}\n'
    dataset = read(tmp_path, queries=queries, test=QRELS + "q3\td1\t0\nq3\td2\t-1\n")
    assert [query.id for query in dataset.queries] == ["q1", "q2"]
    assert dataset.left_out == 1


def test_the_fingerprint_does_not_depend_on_the_order_of_lines(tmp_path):
    turned = ["".join(reversed(text.splitlines(keepends=True))) for text in (CORPUS, QUERIES, QRELS.partition("\n")[2])]
    other = read(tmp_path / "turned", corpus=turned[0], queries=turned[1], test=turned[2])
    plain = read(tmp_path / "plain")
    assert other.documents[0] == plain.documents[-1]
    assert other.fingerprint == plain.fingerprint


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"corpus": CORPUS.replace("cat sleeps", "cat slept")}, {"documents", "judged"}),
        ({"corpus": CORPUS.replace('"Cat"', '"Cats"')}, {"documents", "judged"}),
        (
            {"corpus": CORPUS.replace('"title": "Cat", "text": "A cat sleeps."', '"title": "Cat A", "text": "cat sleeps."')},
            {"documents", "judged"},
        ),
        ({"corpus": CORPUS + '{"_id": "d99", "text": "nobody judged this"}\n'}, {"documents"}),
        ({"queries": QUERIES.replace("weather", "wetter")}, {"queries"}),
        ({"queries": QUERIES.replace("animal", "pet")}, {"queries"}),
        ({"test": QRELS.replace("d1\t2", "d1\t3")}, {"judgements"}),
        ({"test": QRELS.replace("q1\td2\t0\n", "")}, {"judgements", "judged"}),
    ],
)
def test_the_fingerprint_changes_in_the_part_that_changed(tmp_path, changed, parts):
    plain, other = read(tmp_path / "plain").fingerprint, read(tmp_path / "other", **changed).fingerprint
    assert {name for name in plain._fields if getattr(plain, name) != getattr(other, name)} == parts
    assert str(plain) != str(other)


def test_the_fingerprint_sees_the_bytes_of_an_image(tmp_path):
    images = [write(tmp_path / name, {"cat.png": png(name)}) / "cat.png" for name in ("red", "blue")]
    one, two = (build([Document("a", image=image)]).fingerprint for image in images)
    assert one.documents != two.documents


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"documents": [Document("a", "x"), Document("a", "y")]}, "document id 'a' occurs twice"),
        ({"queries": [Query("q", "x"), Query("q", "y")]}, "query id 'q' occurs twice"),
        ({"documents": [Document("a", " ")]}, "'a' has neither text nor image; .*skip_empty"),
        ({"queries": [Query("q")]}, "'q' has neither text nor image"),
        ({"qrels": {"z": {"a": 1}}}, "query 'z', which is not among the 1 queries"),
        ({"qrels": {"q": {"z": 1}}}, "document 'z', which is not among the 2 documents"),
        ({"qrels": {"q": {"a": 1.5}}}, "grade 1.5 of query 'q' and document 'a' is not an integer"),
        ({"qrels": {"q": {"a": True}}}, "grade True .* is not an integer"),
        ({"qrels": {"q": {"a": 1 << 32}}}, "grade 4294967296"),
        ({"qrels": {"q": {"a": 0}}}, "no query of split 'test' has a relevant document"),
    ],
)
def test_building_in_memory_refuses_what_cannot_be_scored(given, said):
    with pytest.raises(DatasetError, match=said):
        build(**given)


def test_building_in_memory_passes_over_empty_entries_on_request():
    dataset = build([Document("a", "cat"), Document("b", "")], qrels={"q": {"a": 1, "b": 2}}, skip_empty=True)
    assert (dataset.skipped, judged(dataset)) == (1, {("q", "a"): 1})


def test_ties_are_ordered_by_id_descending_as_text():
    documents = [Document(name, name) for name in ("10", "9", "a", "é")]
    assert build(documents, qrels={"q": {"a": 1}}).tie_order().tolist() == [3, 2, 1, 0]


def test_the_facts_are_counted_by_hand(tmp_path):
    corpus = CORPUS + '{"_id": "copy", "text": "Rain."}\n'
    facts = read(tmp_path / "pets", corpus=corpus, test=QRELS + "q2\tcopy\t1\n").facts()
    assert facts["name"] == "pets"
    assert (facts["documents"], facts["queries"], facts["judgements"]) == (4, 2, 4)
    assert facts["relevant_per_query"] == 1.5
    assert facts["duplicate_documents"] == 1
    assert (facts["mean_words"], facts["longest_words"]) == ((4 + 4 + 1 + 1) / 4, 4)
    assert (facts["queries_left_out"], facts["entries_skipped"], facts["images"]) == (0, 0, 0)
    assert facts["query_tags"] == {"kind": {"animal": 1}}
    assert set(facts["fingerprint"]) == {"documents", "queries", "judgements", "judged"}
