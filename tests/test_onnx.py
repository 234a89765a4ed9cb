"""ONNX folders: graphs whose token vectors are known, so that every pooling, cut and batch is worked out by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from loaders import WORDS, graph_file, onnx_folder, tokenizer_file

from harness import catalog, tokens
from harness.embedder import Embedder, Item
from harness.errors import ModelError, OptionError
from providers import _graph

LONG = "cat sleeps find storm " * 10
TEXTS = ["cat sleeps", "storm", LONG, "the ferry leaves"]


def rows(text: str) -> list[int]:
    return [2, *(4 + WORDS.index(word) for word in text.split()), 3]


def ready(folder: Path, options: str = "") -> Embedder:
    embedder = catalog.load(f"onnx/{folder}{options}")
    embedder.prepare()
    return embedder


def vectors(embedder: Embedder, *texts: str) -> np.ndarray:
    return embedder.embed([Item(text) for text in texts], "document").vectors


def configure(folder: Path, name: str, said: object) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(said))


@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize(
    ("pooling", "by_hand"),
    [
        ("mean", lambda states: states.mean(axis=0)),
        ("cls", lambda states: states[0]),
        ("last", lambda states: states[-1]),
        ("max", lambda states: states.max(axis=0)),
    ],
)
def test_token_vectors_are_pooled_over_the_text_alone(tmp_path, pooling, by_hand, types):
    table = onnx_folder(tmp_path, pooling="", types=types)
    embedder = ready(tmp_path, f"?pooling={pooling}")
    found = embedder.embed([Item(text) for text in TEXTS], "query")
    np.testing.assert_allclose(found.vectors, [by_hand(table[rows(text)]) for text in TEXTS], atol=1e-6)
    assert found.tokens.tolist() == [len(rows(text)) for text in TEXTS]
    assert embedder.model.pooling == pooling


def test_the_folders_own_pooling_prompts_and_length_count(tmp_path):
    table = onnx_folder(tmp_path, pooling="cls")
    configure(tmp_path, "config_sentence_transformers.json", {"prompts": {"query": "find ", "passage": "storm "}})
    configure(tmp_path, "sentence_bert_config.json", {"max_seq_length": 6})
    embedder = ready(tmp_path, "?pooling=mean")
    assert (embedder.model.query_prompt, embedder.model.document_prompt, embedder.model.max_tokens) == ("find ", "storm ", 6)
    np.testing.assert_allclose(vectors(embedder, LONG)[0], table[rows("storm cat sleeps find")].mean(axis=0), atol=1e-6)
    assert embedder.embed([Item(LONG)], "document").tokens.tolist() == [43]
    assert catalog.load(f"onnx/{tmp_path}").model.pooling == "cls"


def test_a_truncation_left_in_the_tokenizer_is_not_the_models(tmp_path):
    table = onnx_folder(tmp_path)
    tokenizer_file(tmp_path, truncation=5)
    assert ready(tmp_path).embed([Item(LONG)], "query").tokens.tolist() == [len(rows(LONG))]
    np.testing.assert_allclose(vectors(ready(tmp_path), LONG, "cat"), [table[rows(text)].mean(axis=0) for text in (LONG, "cat")], atol=1e-6)


@pytest.mark.parametrize(("count", "length"), [(1, 8), (3, 8)])
def test_graphs_of_fixed_sizes_are_filled_up(tmp_path, count, length):
    table = onnx_folder(tmp_path, rows=count, length=length)
    embedder = ready(tmp_path)
    assert embedder.model.max_tokens == length
    cut = ["cat sleeps", "storm", "cat sleeps find storm cat sleeps", "the ferry leaves"]
    np.testing.assert_allclose(vectors(embedder, *TEXTS), [table[rows(text)].mean(axis=0) for text in cut], atol=1e-6)
    with pytest.raises(OptionError, match="max_tokens 9 is more than the 8 positions that the model has"):
        catalog.load(f"onnx/{tmp_path}?max_tokens=9")


def test_texts_go_one_by_one_where_activations_are_quantized(tmp_path, monkeypatch):
    onnx_folder(tmp_path, quantized=True)
    embedder = ready(tmp_path)
    fed, run = [], embedder._session.run
    monkeypatch.setattr(
        embedder,
        "_session",
        type("Spy", (), {"run": lambda _, names, ports: (fed.append(ports["input_ids"].shape), run(names, ports))[1]})(),
    )
    together = vectors(embedder, *TEXTS)
    assert sorted(fed) == sorted((1, len(rows(text))) for text in TEXTS)
    np.testing.assert_array_equal(together, np.concatenate([vectors(embedder, text) for text in TEXTS]))


def test_what_is_pooled_in_the_graph_is_taken_unless_token_vectors_are_asked_for(tmp_path):
    from onnx import TensorProto, helper, load, save

    table = onnx_folder(tmp_path)
    model = load(tmp_path / "model.onnx")
    model.graph.node.append(helper.make_node("ReduceMax", ["last_hidden_state"], ["sentence_embedding"], axes=[1], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 8]))
    save(model, tmp_path / "model.onnx")
    own, asked = ready(tmp_path), ready(tmp_path, "?pooling=mean")
    assert (own.model.pooling, asked.model.pooling) == ("in the graph", "mean")
    np.testing.assert_allclose(vectors(own, "cat sleeps")[0], table[rows("cat sleeps")].max(axis=0), atol=1e-6)
    np.testing.assert_allclose(vectors(asked, "cat sleeps")[0], table[rows("cat sleeps")].mean(axis=0), atol=1e-6)


def test_the_file_is_part_of_the_identity(tmp_path):
    onnx_folder(tmp_path)
    (tmp_path / "onnx").mkdir()
    shutil.copy(tmp_path / "model.onnx", tmp_path / "onnx" / "model_quantized.onnx")
    plain, same, small = (
        catalog.load(f"onnx/{tmp_path}{option}").model for option in ("", "?file=model.onnx", "?file=model_quantized.onnx")
    )
    assert plain.digest() == same.digest() != small.digest()
    assert small.options == (("file", "onnx/model_quantized.onnx"),)
    graph_file(tmp_path / "model.onnx", length="others")
    assert catalog.load(f"onnx/{tmp_path}").model.digest() != plain.digest()


def test_a_graph_of_over_two_gigabytes_keeps_its_weights_beside_it(tmp_path):
    onnx_folder(tmp_path)
    (tmp_path / "model.onnx_data").write_bytes(b"1")
    before = catalog.load(f"onnx/{tmp_path}").model.digest()
    (tmp_path / "model.onnx_data").write_bytes(b"2")
    assert catalog.load(f"onnx/{tmp_path}").model.digest() != before


def test_tokens_are_counted_without_the_model(tmp_path):
    onnx_folder(tmp_path)
    embedder, items = ready(tmp_path), [Item(text) for text in TEXTS]
    assert tokens.count(embedder.model, items, "query").tolist() == embedder.embed(items, "query").tokens.tolist()


def test_the_outside_of_a_graph_is_what_onnxruntime_says(tmp_path):
    for at, options in enumerate([{}, {"rows": 2, "length": 9}, {"types": False, "quantized": True}]):
        graph_file(tmp_path / f"{at}.onnx", **options)
        found, session = _graph.read(tmp_path / f"{at}.onnx"), onnxruntime.InferenceSession(tmp_path / f"{at}.onnx")
        assert {port.name: tuple(port.shape) for port in session.get_inputs()} == found.inputs
        assert {port.name: tuple(port.shape) for port in session.get_outputs()} == found.outputs
        assert {found.element[name] for name in found.inputs} == {7}
        assert found.quantizes == (at == 2)


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({}, "?file=model_int8.onnx", r"has no model_int8\.onnx or onnx/model_int8\.onnx: there are model\.onnx; name one with \?file="),
        ({}, "?pooling=median", "Invalid enum value 'median'.*; allowed: mean, .*cls, last, max"),
        ({"1_Pooling/config.json": {}}, "", r"no 1_Pooling/config\.json says how token vectors become one: add \?pooling=mean, cls, max or last"),
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}}, "", r"pooling 'mean_tokens\+max_tokens' is not one of"),
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "include_prompt": False}}, "", r"leaves the prompt's tokens out of the mean"),
        ({}, "?device=tpu", r"device 'tpu' is not one that this onnxruntime has \(.*CPU"),
        ({"modules.json": [{"type": "a.Transformer", "path": ""}, {"type": "a.Dense", "path": "2_Dense"}]}, "", "modules.json names Dense behind the graph, which only st/"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, files, options, said):
    onnx_folder(tmp_path)
    for name, content in files.items():
        configure(tmp_path, name, content)
    with pytest.raises((OptionError, ModelError), match=said):
        ready(tmp_path, options)


def test_folders_that_lack_something_are_named(tmp_path):
    with pytest.raises(OptionError, match=r"has no model\.onnx or onnx/model\.onnx: there is no \.onnx file in it"):
        catalog.load(f"onnx/{tmp_path}")
    (tmp_path / "model.onnx").write_bytes(b"\x0fno graph")
    with pytest.raises(ModelError, match=r"has no tokenizer\.json; the model's source has one"):
        catalog.load(f"onnx/{tmp_path}")
    tokenizer_file(tmp_path)
    with pytest.raises(ModelError, match=r"model\.onnx is not an ONNX model"):
        catalog.load(f"onnx/{tmp_path}")


def test_a_graph_that_wants_other_inputs_is_refused(tmp_path):
    from onnx import TensorProto, helper, load, save

    onnx_folder(tmp_path)
    model = load(tmp_path / "model.onnx")
    model.graph.input.append(helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3]))
    save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"wants pixel_values; onnx/ can give input_ids, attention_mask"):
        catalog.load(f"onnx/{tmp_path}")


def test_a_graph_that_gives_another_dimension_is_named(tmp_path):
    onnx_folder(tmp_path)
    with pytest.raises(ModelError, match=r"gives 8 dimensions, not 9; add \?dim=8"):
        ready(tmp_path, "?dim=9")
