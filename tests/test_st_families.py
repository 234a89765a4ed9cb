"""``st/``: folders laid out as each family's are, held against values computed here from the hidden states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from test_hf import BY_HAND, TEXTS, states, vectors

from harness import catalog
from harness.embedder import Item
from harness.errors import OptionError

QUERY = "Instruct: find it\nQuery: "
FAMILIES = {
    "bge, arctic, mxbai": ("bert", "cls", {}),
    "gte, MiniLM": ("bert", "mean", {}),
    "mpnet": ("mpnet", "mean", {}),
    "multilingual-e5": ("xlm-roberta", "mean", {}),
    "bge-m3, arctic-l-v2.0": ("xlm-roberta", "cls", {}),
    "nomic-embed-text": ("nomic_bert", "mean", {}),
    "Qwen3-Embedding": ("qwen3", "lasttoken", {"padding_side": "left"}),
    "nomic-embed-code, jina-code": ("qwen2", "lasttoken", {"padding_side": "left"}),
}
"""family -> (architecture, pooling, tokenizer's settings)"""


def lay_out(folder: Path, pooling: str, *, normalize: bool = True, **prompts: str) -> Path:
    """Put sentence-transformers' files beside a checkpoint, in the layout of versions 2 to 5."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"} for at, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path, _ in kinds[1:]:
        (folder / path).mkdir()
    modes = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "lasttoken": "lasttoken"}
    tiny.change(
        folder / "1_Pooling/config.json",
        word_embedding_dimension=32,
        **{f"pooling_mode_{key}": mode == pooling for key, mode in modes.items()},
    )
    tiny.change(folder / "sentence_bert_config.json", max_seq_length=38, do_lower_case=False)
    tiny.change(folder / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=None)
    return folder


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_pooled_normalised_prompted_and_cut_as_its_folder_says(tmp_path, family):
    name, pooling, settings = FAMILIES[family]
    folder = lay_out(tiny.build(tmp_path, name, **settings), pooling, query=QUERY)
    embedder = catalog.load(f"st/{folder}")
    embedder.prepare()
    by_hand = BY_HAND["last" if pooling == "lasttoken" else pooling]
    expected = unit(np.stack([by_hand(states(folder, text)) for text in TEXTS]))
    np.testing.assert_allclose(vectors(embedder), expected, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([vectors(embedder, (text,)) for text in TEXTS]), expected, atol=1e-5)
    asked = unit(by_hand(states(folder, QUERY + "b")))
    np.testing.assert_allclose(vectors(embedder, ("b",), "query")[0], asked, atol=1e-5)
    model = embedder.model
    assert (model.dim, model.max_tokens, model.query_prompt, model.document_prompt) == (32, 38, QUERY, "")
    ends = {"bert": 2, "eos": 1, "none": 0}[tiny.ARCHITECTURES[name][1]]
    assert embedder.embed([Item("a" * 60)], "document").tokens.tolist() == [60 + ends]
    np.testing.assert_allclose(*vectors(embedder, ("a" * 60, "a" * 39)), atol=1e-6)


def test_hf_reads_the_same_folder_to_the_same_direction(tmp_path):
    folder = lay_out(tiny.build(tmp_path, "xlm-roberta"), "cls", query="q: ")
    both = [catalog.load(f"{provider}/{folder}?max_tokens=20") for provider in ("st", "hf")]
    for embedder in both:
        embedder.prepare()
    plain, pooled = (vectors(embedder, role="query") for embedder in both)
    np.testing.assert_allclose(plain, unit(pooled), atol=1e-5)
    assert (both[1].model.pooling, both[1].model.query_prompt) == ("cls", "q: ")


def test_an_instruction_fills_the_catalogs_template():
    _, settings = catalog.settings("st/Qwen/Qwen3-Embedding-0.6B?instruction=Find the code")
    assert settings.prompts("own", "own")["query_prompt"] == "Instruct: Find the code\nQuery:"
    _, plain = catalog.settings("st/Qwen/Qwen3-Embedding-0.6B?query_prompt=ask: ")
    assert plain.prompts("own", "")["query_prompt"] == "ask: "


def test_static_vectors_are_averaged_without_special_tokens(tmp_path):
    from safetensors.numpy import save_file
    from transformers import PreTrainedTokenizerFast

    tiny.tokenizer(tmp_path, "bert")
    table = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    save_file({"embeddings": table}, tmp_path / "model.safetensors")
    tiny.change(tmp_path / "config.json", model_type="model2vec", hidden_dim=16)
    kind = "sentence_transformers.models.StaticEmbedding"
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": ".", "type": kind}]))
    embedder = catalog.load(f"st/{tmp_path}")
    embedder.prepare()
    ids = PreTrainedTokenizerFast.from_pretrained(tmp_path)(list(TEXTS), add_special_tokens=False)["input_ids"]
    np.testing.assert_allclose(vectors(embedder), [table[row].mean(axis=0) for row in ids], atol=1e-6)
    assert (embedder.model.dim, embedder.model.max_tokens) == (16, None)


MODULE = """
from sentence_transformers.sentence_transformer.modules import Transformer


class Tasks(Transformer):
    def forward(self, features, task=None, **rest):
        features = super().forward(features)
        features["token_embeddings"] = features["token_embeddings"] * {"retrieval": 2, "retrieval.query": 3, "retrieval.passage": 5}[task]
        return features
"""


def test_a_task_reaches_the_models_own_code_by_role(tmp_path):
    """Jina's v3 to v5: the task picks an adapter."""
    folder = lay_out(tiny.build(tmp_path, "bert"), "mean", normalize=False)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"type": "custom_st.Tasks", "kwargs": ["task"]}
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "custom_st.py").write_text(MODULE)
    plain = np.stack([states(folder, text).mean(axis=0) for text in TEXTS])
    for task, factors in (("retrieval", (2, 2)), ("retrieval.query,retrieval.passage", (3, 5))):
        embedder = catalog.load(f"st/{folder}?trust_remote_code=true&task={task}")
        embedder.prepare()
        np.testing.assert_allclose(vectors(embedder, role="query"), factors[0] * plain, atol=1e-4)
        np.testing.assert_allclose(vectors(embedder, role="document"), factors[1] * plain, atol=1e-4)
        assert dict(embedder.model.options)["task"] == task


def test_a_task_that_a_model_does_not_take_is_refused(tmp_path):
    folder = lay_out(tiny.build(tmp_path, "bert"), "mean")
    with pytest.raises(OptionError, match="task 'retrieval' means nothing to this model: none of its modules takes one"):
        catalog.load(f"st/{folder}?task=retrieval")
