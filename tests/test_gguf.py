"""GGUF files through a stand-in for llama.cpp: what is read of the file, asked of the server, cut, counted and refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from loaders import HEAD, gguf_file, token, xllamacpp

from harness import catalog
from harness.embedder import Embedder, Item
from harness.errors import ModelError, OptionError
from providers import _gguf


@pytest.fixture
def servers(monkeypatch):
    return xllamacpp(monkeypatch)


@pytest.fixture
def file(tmp_path):
    gguf_file(tmp_path / "m.gguf")
    return tmp_path / "m.gguf"


def ready(file, options: str = "") -> Embedder:
    embedder = catalog.load(f"gguf/{file}{options}")
    embedder.prepare()
    return embedder


def test_the_file_says_what_the_model_is_without_llama_cpp(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    gguf_file(tmp_path / "m.gguf", HEAD | {"general.license": "apache-2.0", "tiny-bert.context_length": 9000, "tiny-bert.pooling_type": 3})
    model = catalog.load(f"gguf/{tmp_path / 'm.gguf'}?mrl_dims=16,8").model
    assert (model.dim, model.mrl_dims, model.max_tokens, model.pooling, model.licence) == (32, (16, 8), 2048, "last", "apache-2.0")
    with pytest.raises(ImportError) as caught:
        ready(tmp_path / "m.gguf")
    assert catalog.needs_package(caught.value).endswith("pip install 'bakeoff[gguf]'")


def test_what_is_asked_of_the_server(file, servers):
    ready(file, "?pooling=cls&max_tokens=100&device=cpu")
    params = servers[0].params
    assert (params.model.path, params.embedding, params.pooling_type, params.n_gpu_layers) == (str(file), True, 2, 0)
    assert params.n_ctx == params.n_batch == params.n_ubatch == 100
    assert params.n_parallel == 1


def test_prompts_stand_in_front_and_tokens_are_counted(file, servers):
    embedder = ready(file, "?query_prompt=search_query: ")
    found = embedder.embed([Item("cat sleeps", "The"), Item("storm")], "query")
    assert found.tokens.tolist() == [6, 4]
    plain = ready(file).embed([Item("search_query: The cat sleeps"), Item("search_query: storm")], "document")
    np.testing.assert_array_equal(found.vectors, plain.vectors)


def test_a_text_that_is_too_long_loses_its_end_but_not_the_last_mark(file, servers):
    embedder, sent = ready(file, "?max_tokens=5"), []
    ask = embedder._server.handle_embeddings
    embedder._server.handle_embeddings = lambda asked: (sent.extend(asked["input"]), ask(asked))[1]
    found = embedder.embed([Item("a b c"), Item("a b c d e f"), Item("a")], "document")
    assert sent == [[1, *map(token, "abc"), 2], [1, *map(token, "abc"), 2], [1, token("a"), 2]]
    assert found.tokens.tolist() == [5, 8, 3]
    np.testing.assert_array_equal(found.vectors[0], found.vectors[1])


def test_a_file_is_known_by_its_content(file):
    before = catalog.load(f"gguf/{file}").model.digest()
    file.write_bytes(file.read_bytes() + b"x")
    assert catalog.load(f"gguf/{file}").model.digest() != before


def test_the_head_is_read_past_lists(file):
    assert _gguf.read(file) == HEAD | {"tokenizer.ggml.tokens": 2, "tokenizer.ggml.scores": 2}


@pytest.mark.parametrize(
    ("head", "options", "said"),
    [
        (HEAD | {"tiny-bert.pooling_type": 0}, "", r"names no pooling: add \?pooling= and one of mean, cls, last"),
        (HEAD, "?pooling=max", "pooling 'max' is not one of mean, cls, last"),
        (HEAD, "?max_tokens=513", "max_tokens 513 is more than the 512 positions"),
        ({"general.architecture": "clip"}, "?pooling=cls", "does not say how many tokens its clip model reads"),
        (HEAD | {"tiny-bert.embedding_length": 64}, "", r"gives 32 dimensions, not 64; add \?dim=32"),
        (HEAD, "?device=cuda", "device 'cuda' has no effect"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, servers, head, options, said):
    gguf_file(tmp_path / "m.gguf", head)
    with pytest.raises((ModelError, OptionError), match=said):
        ready(tmp_path / "m.gguf", options)


def test_files_that_are_none_or_cut_off_are_named(tmp_path, file):
    (tmp_path / "other.gguf").write_bytes(b"PK\x03\x04 something")
    with pytest.raises(ModelError, match="is not a GGUF file: it does not begin with GGUF"):
        catalog.load(f"gguf/{tmp_path / 'other.gguf'}")
    for kept in (20, 60, 100):
        (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:kept])
        with pytest.raises(ModelError, match="is not a GGUF file that can be read; was it cut off"):
            catalog.load(f"gguf/{tmp_path / 'cut.gguf'}")
    (tmp_path / "old.gguf").write_bytes(b"GGUF\x01" + file.read_bytes()[5:])
    with pytest.raises(ModelError, match="is of GGUF version 1; versions 2 and 3"):
        catalog.load(f"gguf/{tmp_path / 'old.gguf'}")


def test_llama_cpps_own_refusals_are_passed_on(file, servers, monkeypatch):
    embedder = ready(file)
    monkeypatch.setattr(embedder, "_cut", lambda ids: ids * 200)
    with pytest.raises(ModelError, match=r"llama\.cpp refused: input is too large to process"):
        embedder.embed([Item("a b c")], "query")
    import xllamacpp as package

    def refuse(params):
        raise RuntimeError("Failed to init server")

    monkeypatch.setattr(package, "Server", refuse)
    with pytest.raises(ModelError, match=r"llama\.cpp cannot load .*m\.gguf: Failed to init server"):
        ready(file)
