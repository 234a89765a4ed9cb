"""``hf/``: every pooling and every family held against values computed here, straight from the hidden states, one text at a time."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from harness import catalog, tokens
from harness.embedder import Embedder, Item, Role
from harness.errors import ModelError, OptionError

TEXTS = ("a cat sleeps", "b", "the ferry leaves at nine", "a cat sleeps on the warm stone.")
ITEMS = [Item(text) for text in TEXTS]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> dict[str, Path]:
    """Every architecture's folder."""
    return {name: tiny.build(tmp_path_factory.mktemp(name), name) for name in tiny.ARCHITECTURES}


def ready(folder: Path, options: str = "pooling=mean") -> Embedder:
    embedder = catalog.load(f"hf/{folder}?{options}")
    embedder.prepare()
    return embedder


def vectors(embedder: Embedder, texts: tuple[str, ...] = TEXTS, role: Role = "document") -> np.ndarray:
    return embedder.embed([Item(text) for text in texts], role).vectors


def states(folder: Path, text: str, *, layer: int = -1, ids: list[int] | None = None, **config: Any) -> np.ndarray:
    """The hidden states of one text alone, ``(tokens, dim)``."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    ids = ids or AutoTokenizer.from_pretrained(folder)(text, verbose=False)["input_ids"]
    chosen = AutoConfig.from_pretrained(folder)
    for key, value in config.items():
        setattr(chosen, key, value)
    model = AutoModel.from_pretrained(folder, config=chosen).eval()
    with torch.inference_mode():
        return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0].numpy()


def weighted(rows: np.ndarray) -> np.ndarray:
    weights = np.arange(1, len(rows) + 1, dtype=np.float64)
    return (rows * (weights / weights.sum())[:, None]).sum(axis=0)


BY_HAND = {
    "mean": lambda rows: rows.mean(axis=0),
    "cls": lambda rows: rows[0],
    "last": lambda rows: rows[-1],
    "max": lambda rows: rows.max(axis=0),
    "weighted-mean": weighted,
}


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_every_architecture_gives_the_mean_of_its_last_hidden_states_whatever_stands_beside_it(shelf, name):
    embedder = ready(shelf[name])
    expected = np.stack([states(shelf[name], text).mean(axis=0) for text in TEXTS])
    together, alone = vectors(embedder), np.concatenate([vectors(embedder, (text,)) for text in TEXTS])
    np.testing.assert_allclose(together, expected, atol=1e-5)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert (embedder.model.dim, together.dtype) == (32, np.float32)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


@pytest.mark.parametrize("pooling", BY_HAND)
@pytest.mark.parametrize("name", ["bert", "qwen3", "gpt2"])
def test_every_pooling_by_hand(shelf, name, pooling):
    embedder = ready(shelf[name], f"pooling={pooling}")
    expected = np.stack([BY_HAND[pooling](states(shelf[name], text)) for text in TEXTS])
    np.testing.assert_allclose(vectors(embedder), expected, atol=1e-5)
    assert embedder.model.pooling == pooling


@pytest.mark.parametrize("name", ["bert", "electra", "albert", "mistral"])
@pytest.mark.parametrize("layer", [0, 1, -2])
def test_a_layer_is_one_of_the_hidden_states(shelf, name, layer):
    embedder = ready(shelf[name], f"pooling=mean&layer={layer}")
    expected = np.stack([states(shelf[name], text, layer=layer).mean(axis=0) for text in TEXTS])
    np.testing.assert_allclose(vectors(embedder), expected, atol=1e-5)
    assert dict(embedder.model.options)["layer"] == str(layer % 3)


def test_the_last_layer_is_the_default_however_it_is_written(shelf):
    digests = {catalog.load(f"hf/{shelf['bert']}?pooling=mean{layer}").model.digest() for layer in ("", "&layer=2", "&layer=-1")}
    assert len(digests) == 1


def test_everything_that_changes_a_vector_changes_the_identity(shelf):
    options = ("", "&layer=1", "&layer=0", "&max_tokens=20", "&bidirectional=true", "&query_prompt=q: ", "&pooling=max")
    specs = [f"hf/{shelf['mistral']}?pooling=mean{more}" for more in options]
    assert len({catalog.load(spec.replace("pooling=mean&pooling", "pooling")).model.digest() for spec in specs}) == len(specs)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_a_tokenizer_pads_changes_nothing(tmp_path, side):
    folder = tiny.build(tmp_path, "qwen3", padding_side=side)
    expected = np.stack([states(folder, text)[-1] for text in TEXTS])
    np.testing.assert_allclose(vectors(ready(folder, "pooling=last")), expected, atol=1e-5)


def test_texts_are_cut_at_max_tokens_with_their_end_kept_and_counted_before(shelf):
    embedder = ready(shelf["qwen3"], "pooling=last&max_tokens=10")
    found = embedder.embed([Item("a" * 9), Item("a" * 30), Item("a" * 10)], "document")
    assert found.tokens.tolist() == [10, 31, 11]  # with the end token
    np.testing.assert_allclose(found.vectors[1:], found.vectors[[0, 0]], atol=1e-6)


@pytest.mark.parametrize(("name", "limit"), [("bert", 40), ("roberta", 40), ("qwen3", 40)])
def test_the_limit_is_the_tokenizers_or_the_positions(shelf, tmp_path, name, limit):
    assert catalog.load(f"hf/{shelf[name]}?pooling=mean").model.max_tokens == limit
    folder = tiny.build(tmp_path, name, limit=1000)
    positions = {"bert": 64, "roberta": 65, "qwen3": 128}[name]  # RoBERTa: 66 less one for its padding token, number 0
    embedder = ready(folder)
    assert embedder.model.max_tokens == positions
    assert np.isfinite(vectors(embedder, ("a" * 500,))).all()
    with pytest.raises(OptionError, match=f"max_tokens {positions + 1} is more than the {positions} positions"):
        catalog.load(f"hf/{folder}?pooling=mean&max_tokens={positions + 1}")


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_tokens_are_counted_before_a_run_as_in_it(shelf, name):
    embedder = ready(shelf[name], "pooling=mean&document_prompt=find: ")
    counted = tokens.count(embedder.model, ITEMS, "document")
    assert tokens.of(embedder.model).exact
    assert counted.tolist() == embedder.embed(ITEMS, "document").tokens.tolist()


def test_an_end_token_that_only_the_settings_ask_for_is_put_there(tmp_path):
    """e5-mistral: tokenizer_config.json has add_eos_token, tokenizer.json adds none."""
    folder = tiny.build(tmp_path, "mistral", add_eos_token=True)
    embedder = ready(folder, "pooling=last&max_tokens=12")
    begin, b, end = 2, 6, 4
    np.testing.assert_allclose(vectors(embedder, ("b",))[0], states(folder, "", ids=[begin, b, end])[-1], atol=1e-5)
    np.testing.assert_allclose(vectors(embedder, ("b" * 40,)), vectors(embedder, ("b" * 10,)), atol=1e-6)
    assert tokens.count(embedder.model, ITEMS, "query").tolist() == embedder.embed(ITEMS, "query").tokens.tolist()
    assert embedder.model.tokenizer.startswith("ended:")


def test_token_vectors_are_the_hidden_states_of_every_layer(shelf):
    embedder = ready(shelf["bert"], "pooling=mean")
    assert embedder.layers() == ("input", "1", "2")
    (short, long) = embedder.token_vectors(TEXTS[:2])
    np.testing.assert_allclose(short.vectors[-1], states(shelf["bert"], TEXTS[0]), atol=1e-5)
    np.testing.assert_allclose(long.vectors[-1], states(shelf["bert"], TEXTS[1]), atol=1e-5)
    assert short.offsets.max() == len(TEXTS[0])


def test_instructions_fill_templates(shelf):
    spec = f"hf/{shelf['mistral']}?pooling=mean&query_prompt=do: {{instruction}}%0Aq: {{text}}"
    told = ready(shelf["mistral"], spec.partition("?")[2] + "&instruction=find it")
    assert (told.model.query_prompt, told.model.document_prompt) == ("do: find it\nq: ", "")
    np.testing.assert_allclose(vectors(told, ("b",), "query"), vectors(told, ("do: find it\nq: b",), "document"), atol=1e-6)
    assert told.model.digest() != catalog.load(f"{spec}&instruction=find them").model.digest()
    with pytest.raises(OptionError, match=r"needs an instruction: add \?instruction="):
        catalog.load(spec)
    with pytest.raises(OptionError, match="instruction has no effect: query_prompt has no place for it"):
        catalog.load(f"hf/{shelf['mistral']}?pooling=mean&instruction=find it")
    with pytest.raises(OptionError, match=r"goes on behind \{text\}"):
        catalog.load(f"hf/{shelf['mistral']}?pooling=mean&query_prompt=a {{text}} b")


def test_text_mean_leaves_out_the_prompt_and_what_stands_before_it(shelf):
    """GritLM: its prompt is read, but not pooled."""
    prompt = "<|user|>\nfind it\n<|embed|>\n"
    embedder = ready(shelf["mistral"], f"pooling=text-mean&query_prompt={prompt}".replace("\n", "%0A"))
    expected = np.stack([states(shelf["mistral"], prompt + text)[1 + len(prompt) :].mean(axis=0) for text in TEXTS[:2]])
    np.testing.assert_allclose(vectors(embedder, TEXTS[:2], "query"), expected, atol=1e-5)
    whole = np.stack([states(shelf["mistral"], text).mean(axis=0) for text in TEXTS[:2]])
    np.testing.assert_allclose(vectors(embedder, TEXTS[:2], "document"), whole, atol=1e-5)
    assert np.isfinite(vectors(ready(shelf["mistral"], "pooling=text-mean&max_tokens=5&query_prompt=find it: "), ("b",), "query")).all()


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3"])
def test_a_decoder_made_bidirectional_reads_what_comes_later(shelf, name):
    forwards, both = ready(shelf[name], "pooling=cls"), ready(shelf[name], "pooling=cls&bidirectional=true")
    pair = ("cat", "car")
    np.testing.assert_allclose(*vectors(forwards, pair), atol=1e-6)
    assert np.abs(np.subtract(*vectors(both, pair))).max() > 1e-4
    expected = [states(shelf[name], text, is_causal=False)[0] for text in TEXTS]
    np.testing.assert_allclose(vectors(both), expected, atol=1e-5)


def test_an_architecture_that_cannot_be_made_bidirectional_says_so(tmp_path):
    from transformers import MambaConfig, MambaModel

    MambaModel(MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1, state_size=4)).save_pretrained(tmp_path)
    tiny.tokenizer(tmp_path, "eos")
    assert vectors(ready(tmp_path, "pooling=last")).shape == (4, 32)
    with pytest.raises(ModelError, match="bidirectional has no effect on this architecture: transformers lets it read forwards only"):
        ready(tmp_path, "pooling=last&bidirectional=true")


@pytest.mark.parametrize("name", ["T5", "MT5", "Bart"])
def test_of_an_encoder_and_decoder_only_the_encoder_is_asked(tmp_path, name):
    import torch
    import transformers

    shape = {"T5": {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "pad_token_id": 0, "decoder_start_token_id": 0}}
    half = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    ffn = {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": 4}
    shape |= {"MT5": shape["T5"], "Bart": {"d_model": 32, **half, **ffn}}
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(vocab_size=64, **shape[name])).eval()
    model.save_pretrained(tmp_path)
    tiny.tokenizer(tmp_path, "eos")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)(list(TEXTS))["input_ids"]
    with torch.inference_mode():
        expected = [model.get_encoder()(torch.tensor([one])).last_hidden_state[0].mean(dim=0).numpy() for one in ids]
    embedder = ready(tmp_path)
    np.testing.assert_allclose(vectors(embedder), expected, atol=1e-5)
    assert embedder.model.dim == 32


def test_words_of_the_vocabulary_in_a_prompt_are_no_letters(tmp_path):
    """UniXcoder: ``<encoder-only>`` is an entry of its vocabulary, but no special token."""
    folder = tiny.build(tmp_path, "roberta", extra=("<encoder-only>",))
    embedder = ready(folder, "pooling=mean&document_prompt=<encoder-only>")
    found = embedder.embed([Item("ab")], "document")
    assert found.tokens.tolist() == [2 + 1 + 2]


@pytest.mark.parametrize("name", ["mean", "cls", "lasttoken", "weightedmean", "max"])
def test_the_pooling_that_a_sentence_transformers_folder_names_is_the_default(tmp_path, shelf, name):
    folder = tiny.build(tmp_path, "bert")
    (folder / "1_Pooling").mkdir()
    tiny.change(folder / "1_Pooling/config.json", pooling_mode=name)
    assert catalog.load(f"hf/{folder}").model.pooling == {"lasttoken": "last", "weightedmean": "weighted-mean"}.get(name, name)
    tiny.change(folder / "1_Pooling/config.json", pooling_mode="mean", include_prompt=False)
    assert catalog.load(f"hf/{folder}").model.pooling == "text-mean"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", r"nothing in the model's files says how its token vectors are pooled; add \?pooling=mean"),
        ("pooling=middle", "Invalid enum value 'middle'"),
        ("pooling=mean&layer=3", "layer 3 is not one of the model's 0 to 2, or -1 to -3 from the last"),
        ("pooling=mean&layer=-4", "layer -4 is not one of"),
        ("pooling=own&layer=1", "pooling=own leaves everything to the model's code"),
        ("pooling=mean&revision=main", "a folder has no revisions"),
        ("pooling=mean&parameters=5", "unknown option 'parameters'"),
        ("pooling=mean&code_revision=" + "0" * 40 + "&trust_remote_code=true", "takes code from no other repository"),
    ],
)
def test_a_wrong_option_is_one_sentence_with_the_fix(shelf, options, said):
    with pytest.raises(OptionError, match=said):
        catalog.load(f"hf/{shelf['bert']}?{options}")


def test_a_folder_without_a_model_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json: it is no model of transformers"):
        catalog.load(f"hf/{tmp_path}?pooling=mean")


def test_a_dim_that_the_model_does_not_give_is_refused(shelf):
    with pytest.raises(ModelError, match="dim is said to be 16, the model gives 32: say dim=32"):
        ready(shelf["bert"], "pooling=mean&dim=16")


@pytest.mark.parametrize("provider", ["hf", "st"])
def test_weights_that_are_not_in_the_files_are_an_error_and_no_random_numbers(tmp_path, provider):
    """A model whose config.json names another architecture than its weights have, as Jina's v2 (bert) or nomic's v2-moe do."""
    from safetensors.torch import load_file, save_file

    folder = tiny.build(tmp_path, "bert")
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({name: value for name, value in weights.items() if "layer.1.attention" not in name}, path, metadata={"format": "pt"})
    embedder = catalog.load(f"{provider}/{folder}" + ("?pooling=mean" if provider == "hf" else ""))
    with pytest.raises(ModelError, match=r"10 weights are not in its files, encoder\.layer\.1\.attention.*trust_remote_code"):
        embedder.prepare()
    save_file({name: value for name, value in weights.items() if "pooler" not in name}, path, metadata={"format": "pt"})
    ready(folder)  # nobody pools with BERT's pooler
    with pytest.raises(ModelError, match="2 weights are not in its files, pooler"):
        ready(folder, "pooling=own")


def test_the_model_is_known_without_importing_torch(shelf):
    code = f"import sys; from harness import catalog; m = catalog.load('hf/{shelf['deberta-v3']}?pooling=mean&layer=1').model; print(m.dim, m.max_tokens, m.pooling, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["32", "40", "mean", "False"]


def test_half_precision_files_are_computed_in_float32(tmp_path):
    folder = tiny.build(tmp_path, "bert")
    from transformers import AutoModel

    AutoModel.from_pretrained(folder).half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    expected = np.stack([states(folder, text, dtype="float32").mean(axis=0) for text in TEXTS])
    np.testing.assert_allclose(vectors(ready(folder)), expected, atol=1e-5)
    plain = catalog.load(f"st/{folder}")
    plain.prepare()
    np.testing.assert_allclose(vectors(plain), expected, atol=1e-5)


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_odd_texts_are_no_traceback(shelf, text):
    assert np.isfinite(vectors(ready(shelf["bert"]), (f"a{text}",))).all()


def test_models_that_differ_in_what_the_weights_do_not_know_share_them_while_one_is_in_use(shelf):
    folder = shelf["mistral"]
    one = ready(folder, "pooling=mean&query_prompt=a: ")
    before = vectors(one, role="query")
    for same in ("pooling=mean&query_prompt=b: ", "pooling=last&max_tokens=20&layer=1"):
        assert ready(folder, same)._model is one._model
    other = ready(folder, "pooling=mean&query_prompt=b: ")
    assert not np.allclose(vectors(other, role="query"), before, atol=1e-3)
    np.testing.assert_array_equal(vectors(one, role="query"), before)
    assert ready(folder, "pooling=mean&bidirectional=true")._model is not one._model
    held = weakref.ref(one._model)
    del one, other
    gc.collect()
    assert held() is None


def test_a_folder_that_was_trained_anew_does_not_get_the_old_weights(tmp_path):
    folder = tiny.build(tmp_path, "bert")
    one = ready(folder)
    tiny.change(folder / "config.json", layer_norm_eps=0.5)
    other = ready(folder)
    assert other._model is not one._model
    assert not np.allclose(vectors(other), vectors(one), atol=1e-3)


def test_a_prompt_that_adds_words_to_its_tokenizer_leaves_others_alone(tmp_path):
    folder = tiny.build(tmp_path, "roberta", extra=("<mode>",))
    plain = ready(folder)
    before = vectors(plain, ("<mode>a",))
    prompted = ready(folder, "pooling=mean&query_prompt=<mode>")
    assert prompted._model is plain._model
    np.testing.assert_array_equal(vectors(plain, ("<mode>a",)), before)
    assert not np.allclose(vectors(prompted, ("a",), "query"), before, atol=1e-3)
