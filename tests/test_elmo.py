"""ELMo against the equations of its paper and of allenai/bilm-tf, written down once more in NumPy, one token and one cell at a time."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pytest
from loaders import OPTIONS, elmo_folder
from test_senses import LEANING

from harness import catalog, senses
from harness.embedder import Item, TokenEmbedder
from harness.errors import ModelError, OptionError

TEXT = "The cat's tail is short. Is it a Manx? Ökologisch!"
SENTENCES = [["The", "cat's", "tail", "is", "short", "."], ["Is", "it", "a", "Manx", "?"], ["Ökologisch", "!"]]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def clip(x: np.ndarray, most: float | None) -> np.ndarray:
    return x if most is None else np.minimum(np.maximum(x, -most), most)


class Reference:
    """The biLM in float64, without batches."""

    def __init__(self, weights: dict[str, np.ndarray], options: dict) -> None:
        self.weights = {name: array.astype(np.float64) for name, array in weights.items()}
        self.lstm, self.cnn = options["lstm"], options["char_cnn"]

    def layers(self, tokens: list[str]) -> np.ndarray:
        """States of the tokens alone, ``(layers + 1, tokens, 2 projections)``."""
        line = [[258, 256, 259], *([258, *token.encode()[:48], 259] for token in tokens), [258, 257, 259]]
        inputs = [self.word(characters + [260] * (50 - len(characters))) for characters in line]
        found, sides = [[np.concatenate([one, one]) for one in inputs]], [inputs, inputs[::-1]]
        for layer in range(self.lstm["n_layers"]):
            for side in (0, 1):
                states = self.read(sides[side], f"RNN_{side}/RNN/MultiRNNCell/Cell{layer}/LSTMCell")
                residual = self.lstm["use_skip_connections"] and layer > 0
                sides[side] = [state + before for state, before in zip(states, sides[side], strict=True)] if residual else states
            found.append([np.concatenate(pair) for pair in zip(sides[0], sides[1][::-1], strict=True)])
        return np.array(found)[:, 1:-1]

    def word(self, characters: list[int]) -> np.ndarray:
        embedded, found = self.weights["char_embed"][characters], []  # (50, dim)
        for at, (width, number) in enumerate(self.cnn["filters"]):
            kernel, bias = self.weights[f"CNN/W_cnn_{at}"][0], self.weights[f"CNN/b_cnn_{at}"]  # (width, dim, number)
            windows = [embedded[start : start + width] for start in range(50 - width + 1)]
            values = np.array([[(window * kernel[:, :, n]).sum() for n in range(number)] for window in windows]) + bias
            found.append(np.maximum(values.max(axis=0), 0) if self.cnn["activation"] == "relu" else np.tanh(values.max(axis=0)))
        x = np.concatenate(found)
        for at in range(self.cnn["n_highway"]):
            carry, transform = (
                x @ self.weights[f"CNN_high_{at}/W_{g}"] + self.weights[f"CNN_high_{at}/b_{g}"] for g in ("carry", "transform")
            )
            x = sigmoid(carry) * np.maximum(transform, 0) + (1 - sigmoid(carry)) * x
        return x @ self.weights["CNN_proj/W_proj"] + self.weights["CNN_proj/b_proj"]

    def read(self, inputs: list[np.ndarray], cell: str) -> list[np.ndarray]:
        size = self.lstm["dim"]
        c, h, states = np.zeros(size), np.zeros(self.lstm["projection_dim"]), []
        for x in inputs:
            gates = np.concatenate([x, h]) @ self.weights[f"{cell}/W_0"] + self.weights[f"{cell}/B"]
            i, j, f, o = (gates[at * size : (at + 1) * size] for at in range(4))
            c = clip(sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j), self.lstm["cell_clip"])
            h = clip((sigmoid(o) * np.tanh(c)) @ self.weights[f"{cell}/W_P_0"], self.lstm["proj_clip"])
            states.append(h)
        return states


def changed(part: str, **values: object) -> dict:
    options = copy.deepcopy(OPTIONS)
    options[part] |= values
    return options


def embed(folder, *texts, options=""):
    embedder = catalog.load(f"elmo/{folder}{options}")
    embedder.prepare()
    return embedder.embed([Item(text) for text in texts], "document")


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        changed("lstm", use_skip_connections=False),
        changed("lstm", cell_clip=None, proj_clip=None),
        changed("lstm", n_layers=3),
        changed("char_cnn", activation="tanh", n_highway=1),
    ],
)
def test_every_layer_is_what_the_equations_give(tmp_path, options):
    reference = Reference(elmo_folder(tmp_path, options), options)
    layers = np.concatenate([reference.layers(sentence) for sentence in SENTENCES], axis=1)  # (layers + 1, tokens, dim)
    for layer, states in enumerate(layers):
        np.testing.assert_allclose(embed(tmp_path, TEXT, options=f"?layer={layer}").vectors[0], states.mean(axis=0), rtol=1e-4, atol=1e-5)
    found = embed(tmp_path, "A long one, so that all are padded to its many words " * 3, TEXT)
    np.testing.assert_allclose(found.vectors[1], layers.mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)
    assert found.tokens.tolist()[1] == sum(map(len, SENTENCES))
    assert not np.allclose(layers[0].mean(axis=0), layers[1].mean(axis=0), atol=0.1)


def test_token_vectors_are_every_layers_states_at_the_characters_of_their_words(tmp_path):
    reference = Reference(elmo_folder(tmp_path), OPTIONS)
    embedder = catalog.load(f"elmo/{tmp_path}?layer=1")
    embedder.prepare()
    assert isinstance(embedder, TokenEmbedder)
    assert embedder.layers() == ("input", "1", "2")
    other, found, nothing = embedder.token_vectors(["One that is longer than the others, so that they are padded to it.", TEXT, " "])
    expected = np.concatenate([reference.layers(sentence) for sentence in SENTENCES], axis=1)  # (layers + 1, tokens, dim)
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-4, atol=1e-5)
    assert [TEXT[start:end] for start, end in found.offsets] == [token for sentence in SENTENCES for token in sentence]
    assert (found.vectors.dtype, found.offsets.dtype) == (np.float32, np.int64)
    assert other.vectors.shape[1] == len(other.offsets)
    assert (nothing.vectors.shape, nothing.offsets.shape) == ((3, 0, 12), (0, 2))


def test_senses_takes_every_layer(tmp_path):
    elmo_folder(tmp_path, distinct=True)
    found = senses.study_all([f"elmo/{tmp_path}"], LEANING)
    assert not found.absences
    (study,) = found.studies
    assert [layer.name for layer in study.layers] == ["input", "1", "2"]
    assert study.layers[0].overall.value == 0.5  # the characters are the same


def test_words_are_cut_after_48_bytes(tmp_path):
    reference = Reference(elmo_folder(tmp_path), OPTIONS)
    word = "ä" * 23 + "bcxyz"
    np.testing.assert_allclose(embed(tmp_path, word).vectors[0], reference.layers([word]).mean(axis=(0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(embed(tmp_path, word).vectors, embed(tmp_path, "ä" * 23 + "bc").vectors)


def test_the_same_word_has_another_vector_in_another_sentence(tmp_path):
    elmo_folder(tmp_path)
    for layer, same in ((0, True), (1, False), (2, False)):
        bank, river = (embed(tmp_path, text, options=f"?layer={layer}").vectors for text in ("bank bank", "bank"))
        assert np.allclose(bank, river, atol=1e-6) == same


def test_a_layer_is_a_model_of_its_own(tmp_path):
    elmo_folder(tmp_path)
    models = [catalog.load(f"elmo/{tmp_path}{option}").model for option in ("", "?layer=0", "?layer=2")]
    assert len({model.digest() for model in models}) == 3
    assert {model.dim for model in models} == {12}
    for layer in (3, -1):
        with pytest.raises(OptionError, match=rf"layer {layer} is not one of 0 \(the characters\) to 2"):
            catalog.load(f"elmo/{tmp_path}?layer={layer}")


def test_the_official_names_with_the_size_in_front_are_found(tmp_path):
    elmo_folder(tmp_path)
    before = catalog.load(f"elmo/{tmp_path}").model
    for name in ("options.json", "weights.hdf5"):
        (tmp_path / name).rename(tmp_path / f"elmo_2x1024_128_2048cnn_1xhighway_{name}")
    assert catalog.load(f"elmo/{tmp_path}").model == before
    weights = bytearray((tmp_path / "elmo_2x1024_128_2048cnn_1xhighway_weights.hdf5").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "elmo_2x1024_128_2048cnn_1xhighway_weights.hdf5").write_bytes(weights)
    assert catalog.load(f"elmo/{tmp_path}").model.digest() != before.digest()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (changed("lstm", projection_dim=5), r"CNN_proj/W_proj has the shape \(13, 6\), by the options it is \(13, 5\)"),
        (changed("lstm", n_layers=3), "lacks the dataset RNN_0/RNN/MultiRNNCell/Cell2/LSTMCell/W_0, which the options name"),
        (changed("char_cnn", activation="gelu"), r"Invalid enum value 'gelu' - at `\$\.char_cnn\.activation`"),
        ({"lstm": OPTIONS["lstm"]}, "missing required field `char_cnn`"),
    ],
)
def test_files_that_do_not_fit_each_other_are_named(tmp_path, options, said):
    elmo_folder(tmp_path)
    (tmp_path / "options.json").write_text(json.dumps(options))
    with pytest.raises(ModelError, match=said):
        embed(tmp_path, "a")


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"has 0 files \*options\.json; an ELMo folder has one"):
        catalog.load(f"elmo/{tmp_path}")
    elmo_folder(tmp_path)
    (tmp_path / "weights.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(ModelError, match=re.escape(f"{tmp_path / 'weights.hdf5'} is not an HDF5 file that can be read")):
        embed(tmp_path, "a")
