"""``st/<hub id or folder>``: any sentence-transformers model, with its own prompts by role; CLIP and SigLIP read images too.

What identifies the model is read from its small JSON files, so that a run whose vectors are all in the store
loads neither torch nor weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from harness import images
from harness.embedder import Embedded, Item, Model, Role, Settings, TokenVectors, texts
from harness.errors import ModelError, OptionError
from providers import _compute, _hidden, _hub, _siglip
from providers._hub import TOKENS_A_BATCH, Source, json_file
from providers._pipeline import Pipeline

SETTINGS = (
    "revision",
    "query_prompt",
    "document_prompt",
    "instruction",
    "max_tokens",
    "task",
    "device",
    "compute",
    "engine",
    "trust_remote_code",
    "code_revision",
)

_LOADED: WeakValueDictionary[tuple[Any, ...], Pipeline] = WeakValueDictionary()
"""Weights in use: embedders that differ in their prompts only share them."""


def load(name: str, settings: Settings) -> SentenceTransformerEmbedder:
    """``name`` is a folder (``st/./models/mine``, ``st//abs/path``) or a hub id (``st/org/name``)."""
    source = _hub.find("st", name, settings)
    modules = json_file(source.folder / "modules.json") or []
    own = not all(module["type"].startswith("sentence_transformers.") for module in modules)
    if settings.task and not own and not any("task" in module.get("kwargs", ()) for module in modules):
        raise OptionError(f"task {settings.task!r} means nothing to this model: none of its modules takes one")
    if settings.code_revision and own:
        raise OptionError("has modules of its own beside code from elsewhere, and one commit cannot pin both; copy the code into a folder")
    return SentenceTransformerEmbedder(source.folder, settings, provider="st", name=name, revision=source.commit)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a model folder says of itself; None where it has to be loaded to know."""

    dim: int | None
    max_tokens: int | None
    positions: int | None
    pooling: str
    tokenizer: str
    kind: str
    """config.json's word for the first module's architecture."""
    static: bool
    images: bool
    padded_to: int | None
    """SigLIP reads its last place, filled or not, so that every text must be padded as it was in training."""


class SentenceTransformerEmbedder:
    """One sentence-transformers model; weights are loaded by ``prepare``."""

    batch = 32

    def __init__(self, folder: Path, settings: Settings, *, provider: str, name: str, revision: str | None = None) -> None:
        self._settings = settings
        self._pipeline: Pipeline | None = None
        self._source = Source(folder, name, revision)
        facts = _facts(folder)
        self._images = facts.images
        self._content = self._source.revision()
        _hub.check_max_tokens(settings, facts.positions)
        asked = replace(settings, compute=None) if facts.static else settings  # a table has no products to be faster at
        how = _compute.options(asked, facts.kind, fixed=facts.images or facts.static)
        self._how = dict(how)
        dim = facts.dim or settings.dim or int(self._load().model.get_embedding_dimension() or 0)
        self.model = Model(
            provider=provider,
            name=name,
            revision=self._content,
            dim=dim,
            **settings.prompts(*_hub.prompts(folder)),
            pooling=facts.pooling,
            max_tokens=settings.max_tokens or facts.max_tokens,
            options=(
                *how,
                *_hub.code_options(settings),
                *((("task", settings.task),) if settings.task else ()),
                *((images.READ_AS, images.BOTH) if facts.images else ()),
                *self._padding(facts),
                *((_siglip.LOWER,) if _siglip.lowers(folder) else ()),
            ),
            **settings.facts() | {"tokenizer": facts.tokenizer},
        )

    def _padding(self, facts: _Facts) -> tuple[tuple[str, str], ...]:
        length = facts.padded_to
        self._pads = {"processing_kwargs": {"text": {"padding": "max_length", "max_length": length}}} if length else {}
        return (("padded to", str(length)),) if length else ()

    def prepare(self) -> None:
        """Load the weights; raises ModelError where they don't fit what the folder says."""
        model = self._load().model
        if model.get_embedding_dimension() != self.model.dim:
            raise ModelError(f"the folder says dim {self.model.dim}, the model gives {model.get_embedding_dimension()}")
        self.embed([Item("warms up, so that the first batch is timed like the others")], "query")

    def _load(self) -> Pipeline:
        chosen, elsewhere = self._settings, {"code_revision": self._settings.code_revision} if self._settings.code_revision else {}
        said = (chosen.device, chosen.trust_remote_code, chosen.code_revision, chosen.max_tokens)
        key = (self._source.where, self._content, *said, *self._how.items())
        self._pipeline = self._pipeline or _LOADED.get(key)
        if self._pipeline is not None:
            return self._pipeline
        _siglip.check(self._source.folder)
        from sentence_transformers import SentenceTransformer

        with _hub.loading(unused=("pooler.",)):
            model = SentenceTransformer(
                self._source.where,
                revision=self._source.commit,
                device=chosen.device,
                trust_remote_code=chosen.trust_remote_code,
                model_kwargs=elsewhere | _float32(self._source.folder),
                config_kwargs=dict(elsewhere),
            )
        if limit := chosen.max_tokens or _facts(self._source.folder).max_tokens:
            model.max_seq_length = limit
        if _siglip.lowers(self._source.folder):
            _siglip.lower(model.tokenizer)
        self._pipeline = _LOADED[key] = Pipeline(model.eval(), self._how)
        return self._pipeline

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts with the prompt of their role, and images where there is a tower for them; raises ModelError where there is none."""
        prompt = self.model.prompt(role)
        if self._images and any(item.image is not None for item in items):
            return self._embed_both(items, prompt)
        pipeline = self._load()
        if self._images or self._settings.task or not pipeline.plain:
            return self._encode(pipeline, items, role)
        return pipeline.embed(texts(items, prompt), prompt, self.model.dim)

    def _encode(self, pipeline: Pipeline, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts as the model's own code does."""
        model, prompt, switch = pipeline.model, self.model.prompt(role), self._switch(role)
        tokens = count(model.tokenizer, texts(items, prompt))
        encode = model.encode if switch else model.encode_query if role == "query" else model.encode_document
        longest = min(int(tokens.max()), self.model.max_tokens or TOKENS_A_BATCH)
        on_cpu = model.device.type == "cpu"
        with pipeline.computing():
            vectors = encode(
                texts(items),
                prompt=prompt,
                batch_size=max(1, TOKENS_A_BATCH // longest) if on_cpu else self.batch,
                show_progress_bar=False,
                convert_to_tensor=True,
                **switch,
                **self._pads,
            )
        return Embedded(vectors.float().cpu().numpy(), tokens)

    def _embed_both(self, items: Sequence[Item], prompt: str) -> Embedded:
        """Texts and images of a batch by their own towers; sentence-transformers takes no batch of both."""
        pipeline = self._load()
        model = pipeline.model
        if "message" in model.modalities or any(isinstance(one, tuple) for one in model.modalities):
            raise ModelError("joins text and image in a way of its own, which is not supported yet; models with two towers are, as CLIP")

        if "image" not in model.modalities:
            raise ModelError("has an image tower, but the module it is loaded by tells sentence-transformers that it reads texts only")

        def vectors(some: list[Any]) -> NDArray[Any]:
            how = {"prompt": "", "batch_size": self.batch, "show_progress_bar": False, "convert_to_tensor": True}
            with pipeline.computing():
                return np.asarray(model.encode(some, **how, **self._pads).float().cpu())

        matrix = images.towers(items, self.model.dim, vectors, vectors, prompt)
        written = [row for row, item in enumerate(items) if item.full]
        tokens = np.zeros(len(items), dtype=np.int64)  # an image has none
        tokens[written] = count(model.tokenizer, [prompt + items[row].full for row in written]) if written else 0
        return Embedded(matrix, tokens)

    def _switch(self, role: Role) -> dict[str, str]:
        """The task that a model's own code picks its adapter by (Jina's): one for both roles, or ``of queries,of documents``."""
        query, _, document = (self._settings.task or "").partition(",")
        return {} if not query else {"task": query if role == "query" else document or query}

    def layers(self) -> tuple[str, ...]:
        """The names of the transformer's layers; one for static vectors."""
        first = self._first()
        return ("static",) if hasattr(first, "embedding") else _hidden.layers(first.auto_model)

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The hidden states that are pooled afterwards, or the rows of a static table. Raises ModelError where there are neither."""
        first = self._first()
        if not hasattr(first, "embedding"):
            with self._load().computing():
                return _hidden.token_vectors(first.auto_model, first.tokenizer, texts, self.model.max_tokens)
        table = first.embedding.weight.detach().float().cpu().numpy()  # (vocabulary, dim)
        encoded = first.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [TokenVectors(np.array(one.offsets, dtype=np.int64).reshape(-1, 2), table[None, one.ids]) for one in encoded]

    def _first(self) -> Any:
        first = self._load().model[0]
        if hasattr(first, "embedding") or hasattr(first, "auto_model"):  # StaticEmbedding, Transformer
            return first
        raise ModelError(f"its first module, {type(first).__name__}, shows no vectors of single tokens")


def count(tokenizer: Any, prompted: list[str]) -> NDArray[np.int64]:
    """Tokens of each text, special ones included, before anything is cut off, ``(n,)``."""
    if hasattr(tokenizer, "encode_batch_fast"):  # a bare tokenizers.Tokenizer, in static models
        counts = [len(one.ids) for one in tokenizer.encode_batch_fast(prompted, add_special_tokens=False)]
    else:
        counts = [len(ids) for ids in tokenizer(prompted, truncation=False, padding=False, verbose=False)["input_ids"]]
    return np.array(counts, dtype=np.int64)


def _float32(folder: Path) -> dict[str, str]:
    """The argument that makes a checkpoint in another precision compute in float32, as the identity says; else none."""
    modules = json_file(folder / "modules.json") or [{"path": ""}]
    config = json_file(folder / modules[0]["path"] / "config.json")
    return {"dtype": "float32"} if (config.get("dtype") or config.get("torch_dtype") or "float32") != "float32" else {}


def _facts(folder: Path) -> _Facts:
    """Read a model folder's JSON files. Formats: sentence-transformers 2 to 6, Module.save and Pooling.config_keys."""
    modules = json_file(folder / "modules.json") or [{"path": "", "type": "Transformer"}, {"path": "", "type": "Pooling"}]
    pooling, dim = "", None
    first = json_file(folder / modules[0]["path"] / "config.json")
    seeing = "vision_config" in first and "text_config" in first
    for module in modules:
        kind, config = module["type"].rsplit(".", 1)[-1], json_file(folder / module["path"] / "config.json")
        if seeing:
            dim = config.get("projection_dim") if kind == "CLIPModel" and len(modules) == 1 else None
            break
        if kind == "Transformer":
            dim = config.get("hidden_size")
        elif kind == "Pooling":
            pooling, dim = _pooling(config), _pooled_dim(config, dim)
        elif kind == "Dense":
            dim = config.get("out_features")
        elif kind == "StaticEmbedding":
            pooling, dim = "mean", config.get("hidden_dim")
        elif kind != "Normalize":
            dim = None  # anything may come out: load it to know
            break
    text = (first["text_config"] or {}) if seeing else first
    padded = text.get("max_position_embeddings", 64) if first.get("model_type", "").startswith("siglip") else None
    positions, most = _hub.positions(text), _max_tokens(folder, modules, text)
    static, kind = modules[0]["type"].endswith("StaticEmbedding"), str(first.get("model_type", ""))
    return _Facts(dim, most, positions, pooling, _tokenizer(folder, modules), kind, static, seeing, padded)


def _pooling(config: dict[str, Any]) -> str:
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    modes = [name.removeprefix("pooling_mode_") for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    return "+".join(modes) or "mean_tokens"


def _pooled_dim(config: dict[str, Any], dim: int | None) -> int | None:
    width = config.get("embedding_dimension") or config.get("word_embedding_dimension") or dim
    return width * (_pooling(config).count("+") + 1) if width else None


def _tokenizer(folder: Path, modules: list[dict[str, Any]]) -> str:
    """Where harness/tokens.py finds the tokenizer; static models take no special tokens."""
    kind = "bare" if modules[0]["type"].endswith("StaticEmbedding") else "file"
    return next(
        (f"{kind}:{path}" for path in (folder / modules[0]["path"] / "tokenizer.json", folder / "tokenizer.json") if path.is_file()), ""
    )


def _max_tokens(folder: Path, modules: list[dict[str, Any]], config: dict[str, Any]) -> int | None:
    if not modules[0]["type"].endswith(("Transformer", "CLIPModel")):
        return None
    first = folder / modules[0]["path"]
    return json_file(first / "sentence_bert_config.json").get("max_seq_length") or _hub.token_limit(first, config)
