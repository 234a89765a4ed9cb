"""The datasets that come with bakeoff, and that the folder ``datasets`` never stands in for the package of that name."""

import json
import os
import runpy
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from harness import environment, shipped
from harness.errors import DatasetError

ROOT = Path(__file__).parents[1]
HUGGING_FACE = Path(sysconfig.get_paths()["purelib"]) / "datasets" / "__init__.py"
HELP_THEN_IMPORT = """
import runpy, sys
sys.argv = ["harness", "--help"]
try:
    runpy.run_module("harness", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
import datasets
print(datasets.__file__)
"""


def python(*words: str) -> subprocess.CompletedProcess:
    """Run this Python in the repository root, as a user there would."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONSAFEPATH", "PYTHONPATH"}}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def own_folder(folder: Path, about: str = "") -> Path:
    """A one-document dataset of a user's own."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d", "text": "cat"}))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "pet"}))
    (folder / "qrels/test.tsv").write_text("q\td\t1\n")
    (folder / "dataset.toml").write_text(about)
    return folder


@pytest.fixture(scope="module")
def quickstart():
    return shipped.load("quickstart")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def in_cache(cache, monkeypatch):
    monkeypatch.setenv("BAKEOFF_CACHE", str(cache))
    return cache


@pytest.fixture(scope="module")
def pystdlib(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(cache))
        return shipped.load("pystdlib")


def test_two_datasets_are_shipped():
    assert shipped.names() == ["pystdlib", "quickstart"]


def test_quickstart_is_large_enough_to_tell_models_apart(quickstart):
    assert len(quickstart.documents) >= 150
    assert len(quickstart.queries) >= 80


def test_quickstart_judges_in_grades(quickstart):
    grades = Counter(quickstart.judgements.grades.tolist())
    assert {0, 1, 2, 3} >= set(grades) >= {0, 1, 3}


def test_quickstart_has_documents_of_over_3000_words(quickstart):
    assert sum(len(document.text.split()) > 3000 for document in quickstart.documents) >= 3


def test_quickstart_speaks_five_languages_and_python(quickstart):
    documents = Counter((d.tags["kind"], d.tags["language"]) for d in quickstart.documents)
    languages = Counter(d.tags["language"] for d in quickstart.documents)
    assert all(languages[language] >= 10 for language in ("en", "de", "es", "fr", "zh"))
    assert documents["code", "python"] >= 20
    assert {q.tags["language"] for q in quickstart.queries} >= {"en", "de", "es", "fr", "zh"}


def test_quickstart_tags_every_entry_with_kind_and_language(quickstart):
    untagged = [e.id for e in (*quickstart.documents, *quickstart.queries) if not (e.tags.get("kind") and e.tags.get("language"))]
    assert untagged == []


def test_quickstart_asks_nothing_in_the_words_of_its_answer(quickstart):
    judgements = quickstart.judgements
    relevant = [(q, d) for q, d, g in zip(judgements.queries, judgements.documents, judgements.grades, strict=True) if g > 0]
    semantic = [(quickstart.queries[q], quickstart.documents[d]) for q, d in relevant if quickstart.queries[q].tags["style"] != "lexical"]
    assert [query.id for query, document in semantic if query.text.lower() in document.text.lower()] == []


def test_quickstart_leaves_nothing_out(quickstart):
    assert (quickstart.left_out, quickstart.skipped) == (0, 0)
    assert quickstart.facts()["duplicate_documents"] == 0


def test_a_shipped_folder_is_the_same_by_path(quickstart):
    assert shipped.load(shipped.root() / "quickstart").fingerprint == quickstart.fingerprint


def test_pystdlib_is_made_of_the_running_python(pystdlib, cache):
    assert list((cache / "datasets").glob(f"pystdlib-{'.'.join(map(str, sys.version_info[:3]))}-*/corpus.jsonl"))
    assert len(pystdlib.documents) > 1000
    assert 500 <= len(pystdlib.queries) <= 1000
    code = next(document.text for document in pystdlib.documents if document.id == "bisect.insort_right")
    assert code.startswith("def insort_right(a, x, lo=0, hi=None")
    assert "a.insert(lo, x)" in code
    assert "Insert item x" not in code


def test_pystdlib_ids_and_queries_are_unique(pystdlib):
    assert len({document.id for document in pystdlib.documents}) == len(pystdlib.documents)
    assert len({query.text for query in pystdlib.queries}) == len(pystdlib.queries)


def test_no_pystdlib_document_quotes_its_query(pystdlib):
    texts = {document.id: document.text for document in pystdlib.documents}
    assert [query.id for query in pystdlib.queries if query.text in texts[query.id.removeprefix("q:")]] == []


def test_a_page_break_in_a_source_file_does_not_shift_its_lines(tmp_path):
    source = 'x = 1\n\x0c\ndef add(a):\n    """Add one to the number and return."""\n    a += 1\n    b = a\n    c = b\n    return c\n'
    (tmp_path / "paged.py").write_text(source)
    builder = runpy.run_path(str(shipped.root() / "pystdlib/build.py"))
    code = "def add(a):\n    a += 1\n    b = a\n    c = b\n    return c"
    assert list(builder["_definitions"](tmp_path)) == [("paged.add", code, "Add one to the number and return.")]


def test_a_second_load_does_not_build_again(pystdlib, in_cache, monkeypatch):
    monkeypatch.setattr(shipped.runpy, "run_path", lambda path: pytest.fail(f"ran {path} again"))
    assert shipped.load("pystdlib").fingerprint == pystdlib.fingerprint


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def build(folder: Path) -> None:
        (folder / "corpus.jsonl").write_text("half")
        raise OSError("disk full")

    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    monkeypatch.setattr(shipped.runpy, "run_path", lambda path: {"build": build})
    with pytest.raises(OSError, match="disk full"):
        shipped.load("pystdlib")
    assert list((tmp_path / "datasets").iterdir()) == []


def test_a_users_own_folder_may_not_name_a_builder(tmp_path):
    folder = own_folder(tmp_path / "mine", 'builder = "build.py"\n')
    (folder / "build.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\ndef build(out): ...\n")
    with pytest.raises(DatasetError, match=r"mine: dataset\.toml names a builder, but only datasets shipped with bakeoff may run code"):
        shipped.load(folder)
    assert not (folder / "ran").exists()


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(DatasetError, match=r"quikstart: no such folder, .*\(pystdlib, quickstart\) - did you mean 'quickstart'\?"):
        shipped.load("quikstart")


def test_a_folder_that_exists_wins_over_a_shipped_name(tmp_path, monkeypatch):
    own_folder(tmp_path / "quickstart", 'name = "mine"\n')
    monkeypatch.chdir(tmp_path)
    assert shipped.load("quickstart").about.name == "mine"


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "own"))
    assert environment.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("BAKEOFF_CACHE")
    assert environment.cache_folder() == tmp_path / "xdg" / "bakeoff"


def test_the_folder_datasets_is_no_package():
    assert list((ROOT / "datasets").rglob("__init__.py")) == []


def test_python_in_the_repository_imports_hugging_face_datasets():
    assert Path(python("-c", "import datasets; print(datasets.__file__)").stdout.strip()) == HUGGING_FACE


def test_pytest_in_the_repository_imports_hugging_face_datasets(tmp_path):
    check = tmp_path / "test_it.py"
    check.write_text(f"def test_it():\n    import datasets\n\n    assert datasets.__file__ == {str(HUGGING_FACE)!r}\n")
    assert "1 passed" in python("-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", str(check)).stdout


def test_the_command_in_the_repository_imports_hugging_face_datasets():
    assert python("-m", "harness", "--help").stdout.startswith("Usage: bakeoff ")
    assert Path(python("-c", HELP_THEN_IMPORT).stdout.splitlines()[-1]) == HUGGING_FACE
