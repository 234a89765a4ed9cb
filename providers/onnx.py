"""``onnx/<folder>``: a text encoder as an ONNX graph with its tokenizer.json, by onnxruntime, without torch.

The graph is ``?file=``, else model.onnx, else onnx/model.onnx. Where it gives token vectors, they become one as 1_Pooling/config.json
or ``?pooling=`` says; without either that is an error, since a wrong pooling shows nowhere. An int8 file is a model of its own. Graphs
that quantize activations as they come find one scale for a whole batch, so their texts go through one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded, Item, Model, Role, Settings, texts
from harness.errors import ModelError, OptionError, nearest
from providers import _graph, _hub
from providers._files import content_hash, given
from providers._hub import TOKENS_A_BATCH, json_file
from providers.st import _facts
from providers.st import _pooling as _pooling_mode

SETTINGS = ("query_prompt", "document_prompt", "max_tokens", "pooling", "file", "dim", "device")
PACKAGE = "onnxruntime"
POOLINGS = {"cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "max": "max", "max_tokens": "max"}
POOLINGS |= {"last": "last", "lasttoken": "last"}
"""What users and sentence-transformers call a pooling -> what it is called here."""
_FED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_POOLED = ("sentence_embedding",)  # optimum's name for what sentence-transformers' own modules give
_NUMBERS = {6: np.int32, 7: np.int64}


def load(name: str, settings: Settings) -> OnnxEmbedder:
    """``name`` is a folder. Raises OptionError for a wrong file or pooling, ModelError for a folder that lacks something."""
    folder = given("onnx", name, "folder")
    file = _file(folder, settings.file)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"{folder} has no tokenizer.json; the model's source has one, or transformers' AutoTokenizer saves one")
    return OnnxEmbedder(_shape(folder, file, settings), name, settings)


def _file(folder: Path, wanted: str | None) -> Path:
    names = (wanted, f"onnx/{wanted}") if wanted else ("model.onnx", "onnx/model.onnx")
    there = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))
    found = next((folder / name for name in names if name in there), None)
    if found is None:
        known = f"there are {', '.join(there)}; name one with ?file=" if there else "there is no .onnx file in it"
        raise OptionError(f"{folder} has no {' or '.join(names)}: {known}{nearest(wanted or '', there)}")
    return found


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a graph is fed and what is taken of it. ``pooling`` is empty where it gives a vector a text; sizes of None are free."""

    folder: Path
    file: Path
    graph: _graph.Graph
    output: str
    pooling: str
    rows: int | None
    length: int | None


def _shape(folder: Path, file: Path, settings: Settings) -> _Shape:
    graph = _graph.read(file)
    if unknown := [name for name in graph.inputs if name not in _FED]:
        raise ModelError(f"{file} wants {', '.join(unknown)}; onnx/ can give {', '.join(_FED)}")
    if "input_ids" not in graph.inputs:
        raise ModelError(f"{file} takes no input_ids, but {', '.join(graph.inputs)}; onnx/ runs text encoders")
    output = _output(graph, tokens=settings.pooling is not None)
    pooling = _pooling(folder, settings) if len(graph.outputs[output]) == 3 else ""
    if settings.pooling and not pooling:
        raise OptionError(f"pooling {settings.pooling!r} has no effect: {file} gives one vector a text, {output}")
    rows, length = (size if isinstance(size, int) else None for size in graph.inputs["input_ids"])
    return _Shape(folder, file, graph, output, pooling, rows, length)


def _output(graph: _graph.Graph, *, tokens: bool) -> str:
    """The output to take: what is pooled already, unless token vectors are asked for; else the first of token vectors, else the first."""
    pooled = [name for name in graph.outputs if name in _POOLED and not tokens]
    return next(iter(pooled + [name for name, shape in graph.outputs.items() if len(shape) == 3] + list(graph.outputs)))


def _pooling(folder: Path, settings: Settings) -> str:
    modules = [module["type"].rsplit(".", 1)[-1] for module in json_file(folder / "modules.json") or []]
    if beyond := [kind for kind in modules if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise ModelError(f"modules.json names {', '.join(beyond)} behind the graph, which only st/{folder} can run")
    config = json_file(folder / "1_Pooling" / "config.json")
    if config.get("include_prompt") is False:
        raise ModelError("1_Pooling leaves the prompt's tokens out of the mean (include_prompt), which only st/ can do")
    said = settings.pooling or (_pooling_mode(config) if config else "")
    if not said:
        raise OptionError(
            "no 1_Pooling/config.json says how token vectors become one: add ?pooling=mean, cls, max or last, as its card says"
        )
    if said not in POOLINGS:
        raise OptionError(f"pooling {said!r} is not one of mean, cls, max, last{nearest(said, POOLINGS)}")
    return POOLINGS[said]


class OnnxEmbedder:
    """One ONNX graph; it is loaded by ``prepare``."""

    batch = 32

    def __init__(self, shape: _Shape, name: str, settings: Settings) -> None:
        self._shape, self._device = shape, settings.device
        self._session: Any = None
        self._whole: Any = None
        self._cut: Any = None
        self._pad = 0
        facts, file = _facts(shape.folder), shape.file
        beside = sorted(file.parent.glob(f"{file.name}[_.]data*"))  # weights of over 2 GB
        width = shape.graph.outputs[shape.output][-1:]
        dim = settings.dim or (
            width[0] if width and isinstance(width[0], int) else json_file(shape.folder / "config.json").get("hidden_size")
        )
        if not dim:
            raise OptionError(f"{file} does not say how many dimensions {shape.output} has: add ?dim=")
        self.model = Model(
            provider="onnx",
            name=name,
            revision=content_hash(file, *beside, shape.folder / "tokenizer.json"),
            dim=dim,
            **settings.prompts(*_hub.prompts(shape.folder)),
            pooling=shape.pooling or "in the graph",
            max_tokens=_max_tokens(shape, facts.max_tokens, facts.positions, settings.max_tokens),
            options=(("file", file.relative_to(shape.folder).as_posix()),),
            **settings.facts() | {"tokenizer": f"file:{shape.folder / 'tokenizer.json'}"},
        )

    def prepare(self) -> None:
        """Load the graph; raises ModelError where it gives another dimension than it says."""
        if self._session is None:
            self._load()
        dim = self.embed([Item("warms up, so that the first batch is timed like the others")], "query").vectors.shape[1]
        if dim != self.model.dim:
            raise ModelError(f"{self._shape.file} gives {dim} dimensions, not {self.model.dim}; add ?dim={dim}")

    def _load(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        path = self.model.tokenizer.removeprefix("file:")
        self._whole, self._cut = Tokenizer.from_file(path), Tokenizer.from_file(path)
        self._pad = (self._cut.padding or {}).get("pad_id") or self._cut.token_to_id(_pad_token(self._shape.folder)) or 0
        for tokenizer in (self._whole, self._cut):
            tokenizer.no_padding()
            tokenizer.no_truncation()
        if self.model.max_tokens:
            self._cut.enable_truncation(self.model.max_tokens)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(str(self._shape.file), options, providers=_devices(self._device))
        except Exception as error:
            raise ModelError(f"{self._shape.file} cannot be loaded: {str(error).splitlines()[0]}") from error

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts behind the prompt of their role, cut off at ``max_tokens``."""
        prompted = texts(items, self.model.prompt(role))
        tokens = np.array([len(one.ids) for one in self._whole.encode_batch_fast(prompted)], dtype=np.int64)
        if not tokens.all():
            raise ModelError(f"text {prompted[int(np.argmin(tokens))]!r} has no token in the model's vocabulary")
        encoded = self._cut.encode_batch_fast(prompted)
        order = sorted(range(len(items)), key=lambda at: len(encoded[at].ids))
        pooled, start = [], 0
        while start < len(order):
            end = start + 1
            while end < len(order) and self._fits(end + 1 - start, len(encoded[order[end]].ids)):
                end += 1
            pooled.append(self._run([encoded[at] for at in order[start:end]]))
            start = end
        return Embedded(np.concatenate(pooled)[np.argsort(order)], tokens)

    def _fits(self, rows: int, longest: int) -> bool:
        if self._shape.graph.quantizes:
            return False
        return rows <= (self._shape.rows or rows) and rows * (self._shape.length or longest) <= TOKENS_A_BATCH

    def _run(self, encoded: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of a batch, ``(rows, dim)``; a graph of fixed sizes gets them filled up with padding."""
        rows, length = self._shape.rows or len(encoded), self._shape.length or max(len(one.ids) for one in encoded)
        ids, mask, kinds = np.full((rows, length), self._pad), np.zeros((rows, length), int), np.zeros((rows, length), int)
        for row, one in enumerate(encoded):
            ids[row, : len(one.ids)], mask[row, : len(one.ids)], kinds[row, : len(one.ids)] = one.ids, 1, one.type_ids
        mask[len(encoded) :, 0] = 1  # rows that only fill the batch: attention over nothing would be a NaN
        positions = np.broadcast_to(np.arange(length), (rows, length))
        given = dict(zip(_FED, (ids, mask, kinds, positions), strict=True))
        graph = self._shape.graph
        fed = {name: given[name].astype(_NUMBERS.get(graph.element[name], np.int64)) for name in graph.inputs}
        states: NDArray[np.float32] = self._session.run([self._shape.output], fed)[0][: len(encoded)].astype(np.float32)
        return pool(states, mask[: len(encoded)], self._shape.pooling) if self._shape.pooling else states


def pool(states: NDArray[np.float32], mask: NDArray[Any], pooling: str) -> NDArray[np.float32]:
    """One vector of each text's token vectors: ``(n, tokens, dim)`` and ``(n, tokens)``, padded on the right, to ``(n, dim)``."""
    if pooling == "cls":
        return np.asarray(states[:, 0])
    if pooling == "last":
        return np.asarray(states[np.arange(len(states)), mask.sum(axis=1) - 1])
    inside = mask[:, :, None].astype(np.float32)
    if pooling == "max":
        return np.asarray(np.where(inside > 0, states, -np.inf).max(axis=1))
    return np.asarray((states * inside).sum(axis=1) / inside.sum(axis=1))


def _max_tokens(shape: _Shape, own: int | None, positions: int | None, asked: int | None) -> int | None:
    """Where texts are cut off: at the graph's length, the model's positions or earlier. Raises OptionError for more than that."""
    limits = [limit for limit in (shape.length, positions) if limit]
    if asked and limits and asked > min(limits):
        raise OptionError(f"max_tokens {asked} is more than the {min(limits)} positions that the model has")
    return asked or min([limit for limit in (*limits, own) if limit], default=None)


def _pad_token(folder: Path) -> str:
    said = json_file(folder / "tokenizer_config.json").get("pad_token") or "[PAD]"
    return str(said["content"] if isinstance(said, dict) else said)


def _devices(device: str | None) -> list[str]:
    import onnxruntime

    there = onnxruntime.get_available_providers()
    wanted = {None: "CPU", "cpu": "CPU", "cuda": "CUDA", "mps": "CoreML"}.get(device)
    if f"{wanted}ExecutionProvider" not in there:
        known = ", ".join(name.removesuffix("ExecutionProvider") for name in there)
        raise ModelError(f"device {device!r} is not one that this onnxruntime has ({known}); cpu, or cuda with pip install onnxruntime-gpu")
    return [f"{wanted}ExecutionProvider"]
