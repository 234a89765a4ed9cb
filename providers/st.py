"""``st/<hub id or folder>``: any sentence-transformers model, with its own prompts by role; CLIP and SigLIP read images too.

What identifies the model is read from its small JSON files, so that a run whose vectors are all in the store
loads neither torch nor weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from harness import images
from harness.embedder import Embedded, Item, Model, Role, Settings, texts
from harness.errors import ModelError, OptionError

SETTINGS = ("revision", "query_prompt", "document_prompt", "max_tokens", "device", "trust_remote_code")
TOKENS_A_BATCH = 4096
"""On a CPU small batches stay in its cache: 6.5 thousand tokens/s at 4,096 tokens, 5.4 at 16,384 (MiniLM, 2 cores)."""
_SMALL_FILES = ["*.json", "*.txt"]
_LOADED: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
"""Weights in use: embedders that differ in their prompts only share them."""


def load(name: str, settings: Settings) -> SentenceTransformerEmbedder:
    """``name`` is a folder (``st/./models/mine``, ``st//abs/path``) or a hub id (``st/org/name``)."""
    if name and Path(name).is_dir():
        if settings.revision:
            raise OptionError(f"a folder has no revisions, but revision {settings.revision!r} was given; name the folder of that one")
        return SentenceTransformerEmbedder(Path(name), settings, provider="st", name=name)
    if not name or name.startswith((".", "/", "~")):
        raise OptionError(f"{name!r} is not a folder; write st/<folder> or st/<organisation>/<name>")
    folder = _snapshot(name, settings.revision)
    return SentenceTransformerEmbedder(folder, settings, provider="st", name=name, revision=folder.name)


def _snapshot(name: str, revision: str | None) -> Path:
    """The cached snapshot of a hub id with its small files, downloaded if need be; its name is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_SMALL_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        fix = "check the name and the network, or give a folder with st/<folder>"
        raise ModelError(
            f"{name!r}{at} is neither in the local cache nor to be had from the hub ({type(error).__name__}); {fix}"
        ) from error


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a model folder says of itself; None where it has to be loaded to know."""

    dim: int | None
    max_tokens: int | None
    positions: int | None
    pooling: str
    query_prompt: str
    document_prompt: str
    tokenizer: str
    images: bool
    padded_to: int | None
    """SigLIP reads its last place, filled or not, so that every text must be padded as it was in training."""


class SentenceTransformerEmbedder:
    """One sentence-transformers model; weights are loaded by ``prepare``."""

    batch = 32

    def __init__(self, folder: Path, settings: Settings, *, provider: str, name: str, revision: str | None = None) -> None:
        self._folder, self._settings = folder, settings
        self._model: Any = None
        self._name = name if revision else str(folder)
        self._commit, self._content = revision, revision or _content_hash(folder)
        facts = _facts(folder)
        self._images = facts.images
        if settings.max_tokens and facts.positions and settings.max_tokens > facts.positions:
            raise OptionError(f"max_tokens {settings.max_tokens} is more than the {facts.positions} positions that the model has")
        dim = facts.dim or int(self._load().get_embedding_dimension() or 0)
        self.model = Model(
            provider=provider,
            name=name,
            revision=self._content,
            dim=dim,
            query_prompt=facts.query_prompt if settings.query_prompt is None else settings.query_prompt,
            document_prompt=facts.document_prompt if settings.document_prompt is None else settings.document_prompt,
            pooling=facts.pooling,
            max_tokens=settings.max_tokens or facts.max_tokens,
            options=(("compute", "float32"), *((images.READ_AS, images.BOTH) if facts.images else ()), *self._padding(facts)),
            **settings.facts() | {"tokenizer": facts.tokenizer},
        )

    def _padding(self, facts: _Facts) -> tuple[tuple[str, str], ...]:
        length = facts.padded_to
        self._how = {"processing_kwargs": {"text": {"padding": "max_length", "max_length": length}}} if length else {}
        return (("padded to", str(length)),) if length else ()

    def prepare(self) -> None:
        """Load the weights; raises ModelError where they don't fit what the folder says."""
        model = self._load()
        if model.get_embedding_dimension() != self.model.dim:
            raise ModelError(f"the folder says dim {self.model.dim}, the model gives {model.get_embedding_dimension()}")
        self.embed([Item("warms up, so that the first batch is timed like the others")], "query")

    def _load(self) -> Any:
        chosen = self._settings
        key = (self._name, self._content, chosen.device, chosen.trust_remote_code, chosen.max_tokens)
        self._model = self._model or _LOADED.get(key)
        if self._model is not None:
            return self._model
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(
                self._name,
                revision=self._commit,
                device=self._settings.device,
                trust_remote_code=self._settings.trust_remote_code,
            )
        except (OSError, ValueError) as error:
            hint = "; if you trust its code, add ?trust_remote_code=true" if "trust_remote_code" in str(error) else ""
            raise ModelError(f"cannot be loaded: {str(error).splitlines()[0]}{hint}") from error
        if self._settings.max_tokens:
            self._model.max_seq_length = self._settings.max_tokens
        _LOADED[key] = self._model
        return self._model

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts with the prompt of their role, and images where there is a tower for them; raises ModelError where there is none."""
        prompt = self.model.prompt(role)
        if self._images and any(item.image is not None for item in items):
            return self._embed_both(items, prompt)
        tokens = self._count(texts(items, prompt))
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        longest = min(int(tokens.max()), self.model.max_tokens or TOKENS_A_BATCH)
        on_cpu = self._model.device.type == "cpu"
        vectors = encode(
            texts(items),
            prompt=prompt,
            batch_size=max(1, TOKENS_A_BATCH // longest) if on_cpu else self.batch,
            show_progress_bar=False,
            convert_to_numpy=True,
            **self._how,
        )
        return Embedded(np.asarray(vectors, dtype=np.float32), tokens)

    def _embed_both(self, items: Sequence[Item], prompt: str) -> Embedded:
        """Texts and images of a batch by their own towers; sentence-transformers takes no batch of both."""
        model = self._model
        if "message" in model.modalities or any(isinstance(one, tuple) for one in model.modalities):
            raise ModelError("joins text and image in a way of its own, which is not supported yet; models with two towers are, as CLIP")

        def vectors(some: list[Any]) -> NDArray[Any]:
            how = {"prompt": "", "batch_size": self.batch, "show_progress_bar": False, "convert_to_numpy": True}
            return np.asarray(model.encode(some, **how, **self._how))

        matrix = images.towers(items, self.model.dim, vectors, vectors, prompt)
        written = [row for row, item in enumerate(items) if item.full]
        tokens = np.zeros(len(items), dtype=np.int64)  # an image has none
        tokens[written] = self._count([prompt + items[row].full for row in written]) if written else 0
        return Embedded(matrix, tokens)

    def _count(self, prompted: list[str]) -> NDArray[np.int64]:
        """Tokens of each text, special ones included, before anything is cut off, ``(n,)``."""
        tokenizer = self._model.tokenizer
        if hasattr(tokenizer, "encode_batch_fast"):  # a bare tokenizers.Tokenizer, in static models
            counts = [len(one.ids) for one in tokenizer.encode_batch_fast(prompted, add_special_tokens=False)]
        else:
            counts = [len(ids) for ids in tokenizer(prompted, truncation=False, padding=False, verbose=False)["input_ids"]]
        return np.array(counts, dtype=np.int64)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _facts(folder: Path) -> _Facts:
    """Read a model folder's JSON files. Formats: sentence-transformers 2 to 6, Module.save and Pooling.config_keys."""
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    document = next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), "")
    modules = _json(folder / "modules.json") or [{"path": "", "type": "Transformer"}, {"path": "", "type": "Pooling"}]
    pooling, dim = "", None
    first = _json(folder / modules[0]["path"] / "config.json")
    seeing = "vision_config" in first and "text_config" in first
    for module in modules:
        kind, config = module["type"].rsplit(".", 1)[-1], _json(folder / module["path"] / "config.json")
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
    padded = (first["text_config"] or {}).get("max_position_embeddings", 64) if first.get("model_type", "").startswith("siglip") else None
    positions = ((first["text_config"] or {}) if seeing else first).get("max_position_embeddings")
    most, tokenizer = _max_tokens(folder, modules, positions), _tokenizer(folder, modules)
    return _Facts(dim, most, positions, pooling, prompts.get("query") or "", document, tokenizer, seeing, padded)


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


def _max_tokens(folder: Path, modules: list[dict[str, Any]], positions: int | None) -> int | None:
    if not modules[0]["type"].endswith(("Transformer", "CLIPModel")):
        return None
    own = _json(folder / modules[0]["path"] / "sentence_bert_config.json").get("max_seq_length")
    tokenizer = _json(folder / modules[0]["path"] / "tokenizer_config.json").get("model_max_length")
    limits = [limit for limit in (tokenizer, positions) if limit and limit < 1 << 20]
    return own or (min(limits) if limits else None)


def _content_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of all files but read-me's and hidden ones: a folder trained anew is another model."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and path.suffix != ".md" and not any(part.startswith(".") for part in relative.parts):
            with path.open("rb") as file:
                digest.update(f"{relative.as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
