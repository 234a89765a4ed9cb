"""ELMo's bidirectional language model in torch. Equations and names of datasets: allenai/bilm-tf, bilm/model.py and bilm/data.py.

A token is at most 50 numbers: begin of word, its UTF-8 bytes, end of word, then padding; all are raised by 1, since row 0 of the
table of characters, zeros, stands for what is outside the sentence. An LSTM's gates lie in TensorFlow's order i, j, f, o, with 1
added to f when it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError

BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 256, 257, 258, 259, 260
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Width = Annotated[int, msgspec.Meta(ge=1, le=50)]


class Lstm(msgspec.Struct):
    """``dim`` is the size of the memory cell; clips of None leave values as they are."""

    dim: _Count
    projection_dim: _Count
    n_layers: _Count = 1
    cell_clip: float | None = None
    proj_clip: float | None = None
    use_skip_connections: bool = False


class Embedding(msgspec.Struct):
    """The table of characters."""

    dim: _Count


class CharCnn(msgspec.Struct):
    """``filters`` are pairs of width and number."""

    embedding: Embedding
    filters: Annotated[list[tuple[_Width, _Count]], msgspec.Meta(min_length=1)]
    activation: Literal["relu", "tanh"]
    n_highway: int | None = None
    n_characters: Annotated[int, msgspec.Meta(ge=261)] = 262
    max_characters_per_token: Annotated[int, msgspec.Meta(ge=3)] = 50


class Options(msgspec.Struct):
    """What is read of options.json, by its own names."""

    lstm: Lstm
    char_cnn: CharCnn

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every dataset that weights.hdf5 must have, with its shape."""
        cnn, lstm = self.char_cnn, self.lstm
        filters = sum(number for _, number in cnn.filters)
        found: dict[str, tuple[int, ...]] = {"char_embed": (261, cnn.embedding.dim)}
        for at, (width, number) in enumerate(cnn.filters):
            found |= {f"CNN/W_cnn_{at}": (1, width, cnn.embedding.dim, number), f"CNN/b_cnn_{at}": (number,)}
        for at in range(cnn.n_highway or 0):
            for gate in ("carry", "transform"):
                found |= {f"CNN_high_{at}/W_{gate}": (filters, filters), f"CNN_high_{at}/b_{gate}": (filters,)}
        if filters != lstm.projection_dim:
            found |= {"CNN_proj/W_proj": (filters, lstm.projection_dim), "CNN_proj/b_proj": (lstm.projection_dim,)}
        for direction in (0, 1):
            for layer in range(lstm.n_layers):
                cell = _cell(direction, layer)
                found |= {f"{cell}/W_0": (2 * lstm.projection_dim, 4 * lstm.dim), f"{cell}/B": (4 * lstm.dim,)}
                found |= {f"{cell}/W_P_0": (lstm.dim, lstm.projection_dim)}
        return found


def _cell(direction: int, layer: int) -> str:
    return f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"


def read(path: Path, options: Options) -> dict[str, NDArray[np.float32]]:
    """Every weight by the name of its dataset. Raises ModelError for one that is missing or has another shape than options.json says."""
    import h5py

    found = {}
    try:
        with h5py.File(path, "r") as file:
            for name, shape in options.shapes().items():
                if name not in file:
                    raise ModelError(f"{path} lacks the dataset {name}, which the options name")
                if file[name].shape != shape:
                    raise ModelError(f"{path}: {name} has the shape {file[name].shape}, by the options it is {shape}")
                found[name] = np.asarray(file[name], dtype=np.float32)
    except OSError as error:
        raise ModelError(f"{path} is not an HDF5 file that can be read: {error}") from error
    return found


def characters(word: str, length: int) -> list[int]:
    """A token's character ids; what is longer loses its end."""
    return _padded([BEGIN_WORD, *word.encode("utf-8", "ignore")[: length - 2], END_WORD], length)


def _padded(ids: list[int], length: int) -> list[int]:
    return [character + 1 for character in ids] + [PADDING + 1] * (length - len(ids))


@dataclass(slots=True)
class BiLM:
    """The model on a device, its weights as torch tensors."""

    options: Options
    weights: dict[str, Any]
    device: str | None = None

    def __post_init__(self) -> None:
        """Move the weights, with the row of zeros on top of the characters."""
        import torch

        self.weights = {name: torch.from_numpy(array).to(self.device) for name, array in self.weights.items()}
        table = self.weights["char_embed"]
        self.weights["char_embed"] = torch.cat([torch.zeros_like(table[:1]), table])

    def means(self, sentences: Sequence[Sequence[str]], layer: int | None) -> NDArray[np.float32]:
        """The mean over each sentence's tokens, ``(sentences, 2 projections)``, of one layer, or of all averaged."""
        import torch

        with torch.inference_mode():
            layers, lengths = self._layers(sentences)
            states = layers[layer] if layer is not None else torch.stack(layers).mean(dim=0)
            inside = torch.arange(states.shape[1], device=states.device)
            mask = (inside >= 1) & (inside < lengths[:, None] - 1)  # neither the sentence's begin nor its end
            means = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1)[:, None]
        return np.asarray(means.cpu().numpy())

    def states(self, sentences: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """Every layer's states of each sentence's own tokens, ``(layers + 1, tokens, 2 projections)`` a sentence."""
        import torch

        with torch.inference_mode():
            layers, lengths = self._layers(sentences)
            every = torch.stack(layers, dim=1).cpu().numpy()  # (sentences, layers + 1, tokens + 2, 2 projections)
        return [states[:, 1 : length - 1] for states, length in zip(every, lengths.tolist(), strict=True)]

    def _layers(self, sentences: Sequence[Sequence[str]]) -> tuple[list[Any], Any]:
        """Every layer's states ``(sentences, tokens + 2, 2 projections)``, and the lengths with begin and end, ``(sentences,)``."""
        import torch

        inputs, lengths = self._tokens(sentences)  # (sentences, tokens + 2, projection)
        steps = torch.arange(inputs.shape[1], device=inputs.device)
        back = (lengths[:, None] - 1 - steps).clamp(min=0)[:, :, None]  # turns each sentence round within its own length
        sides = [inputs, inputs.gather(1, back.expand_as(inputs))]
        layers = [torch.cat([inputs, inputs], dim=2)]
        for layer in range(self.options.lstm.n_layers):
            for direction, before in enumerate(sides):
                states = self._lstm(before, _cell(direction, layer))
                sides[direction] = states + before if layer and self.options.lstm.use_skip_connections else states
            forwards, backwards = sides
            layers.append(torch.cat([forwards, backwards.gather(1, back.expand_as(backwards))], dim=2))
        return layers, lengths

    def _tokens(self, sentences: Sequence[Sequence[str]]) -> tuple[Any, Any]:
        """Vectors of the tokens between a begin and an end, zeros behind it; each distinct token goes through the CNN once."""
        import torch

        words = sorted({word for sentence in sentences for word in sentence})
        length = self.options.char_cnn.max_characters_per_token
        marks = [_padded([BEGIN_WORD, mark, END_WORD], length) for mark in (BEGIN_SENTENCE, END_SENTENCE)]
        ids = torch.tensor([*marks, *(characters(word, length) for word in words)], device=self.device)
        vectors = self._characters(ids)
        vectors = torch.cat([vectors, torch.zeros_like(vectors[:1])])
        row = {word: at + 2 for at, word in enumerate(words)}
        lengths = [len(sentence) + 2 for sentence in sentences]
        lines = [[0, *(row[word] for word in sentence), 1] for sentence in sentences]
        padded = [line + [len(vectors) - 1] * (max(lengths) - len(line)) for line in lines]
        return vectors[torch.tensor(padded, device=self.device)], torch.tensor(lengths, device=self.device)

    def _characters(self, ids: Any) -> Any:
        """Tokens ``(n, characters)`` to vectors ``(n, projection)``: convolutions, their maxima, highways, projection."""
        import torch

        weights, cnn = self.weights, self.options.char_cnn
        embedded = weights["char_embed"][ids].transpose(1, 2)  # (n, dim, characters)
        found = []
        for at in range(len(cnn.filters)):
            kernel = weights[f"CNN/W_cnn_{at}"][0].permute(2, 1, 0)  # (width, dim, number) -> (number, dim, width)
            found.append(torch.conv1d(embedded, kernel, weights[f"CNN/b_cnn_{at}"]).amax(dim=2))
        vectors = getattr(torch, cnn.activation)(torch.cat(found, dim=1))
        for at in range(cnn.n_highway or 0):
            through = {
                gate: vectors @ weights[f"CNN_high_{at}/W_{gate}"] + weights[f"CNN_high_{at}/b_{gate}"] for gate in ("carry", "transform")
            }
            carry = torch.sigmoid(through["carry"])
            vectors = carry * torch.relu(through["transform"]) + (1 - carry) * vectors
        return vectors @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"] if "CNN_proj/W_proj" in weights else vectors

    def _lstm(self, inputs: Any, cell: str) -> Any:
        """One direction of one layer, ``(n, steps, projection)`` to the same."""
        import torch

        weights, options = self.weights, self.options.lstm
        from_input, from_state = weights[f"{cell}/W_0"].split(options.projection_dim)
        given = inputs @ from_input + weights[f"{cell}/B"]  # (n, steps, 4 cells)
        memory, state = given.new_zeros(len(inputs), options.dim), given.new_zeros(len(inputs), options.projection_dim)
        states = []
        for step in range(inputs.shape[1]):
            write, new, keep, show = (given[:, step] + state @ from_state).chunk(4, dim=1)  # i, j, f, o
            memory = torch.sigmoid(keep + 1) * memory + torch.sigmoid(write) * torch.tanh(new)
            memory = _clipped(memory, options.cell_clip)
            state = _clipped((torch.sigmoid(show) * torch.tanh(memory)) @ weights[f"{cell}/W_P_0"], options.proj_clip)
            states.append(state)
        return torch.stack(states, dim=1)


def _clipped(values: Any, most: float | None) -> Any:
    return values.clamp(-most, most) if most else values
