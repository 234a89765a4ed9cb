"""``mteb/<name>``: any dense text model of mteb's registry, by mteb's own loader, which puts its own prompts in front by role.

What a prompt depends on is a task: without ``?task=`` a retrieval task that no model knows, so that prompts for queries and documents
count, and instructions say "Retrieve text based on user query."; with ``?task=SciFact`` what mteb would use there. The facts of a
model are kept beside the vectors, since mteb takes seven seconds to import: a run whose vectors are all in the store does without.
"""

from __future__ import annotations

import inspect
import math
import os
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded, Item, Model, Role, Settings, texts
from harness.environment import cache_folder
from harness.errors import ModelError, OptionError, nearest
from providers.st import count

SETTINGS = ("task", "device", "trust_remote_code")
_OURS = {"openai": "openai", "google": "gemini", "mongodb": "voyage", "Cohere": "cohere", "jinaai": "jina", "mistral": "mistral"}
"""Who makes models behind an API, as mteb calls them -> our provider."""


class Facts(msgspec.Struct, frozen=True):
    """What mteb's registry says of a model. ``remote``: its loader runs code from the hub."""

    name: str
    revision: str
    dims: tuple[int, ...]
    max_tokens: int | None
    licence: str
    api: bool
    dense_text: bool
    remote: bool


def load(name: str, settings: Settings) -> MtebEmbedder:
    """``name`` is mteb's. Raises OptionError for a model that mteb doesn't know, that is none of texts, or that runs behind an API."""
    facts = _facts(name)
    if facts.api:
        maker, _, model = name.partition("/")
        ours = f"write {_OURS[maker]}/{model}" if maker in _OURS else "if its API speaks OpenAI's protocol, openai-compatible/ asks it"
        raise OptionError(f"{name!r} runs behind an API, where mteb keeps to no limits, budget or order: {ours}")
    if not facts.dense_text:
        raise OptionError(f"{name!r} gives no single vector a text: mteb/ runs dense text models")
    if not facts.dims:
        raise ModelError(f"mteb does not say how many dimensions {name!r} has; write st/{name}")
    if facts.remote and not settings.trust_remote_code:
        at = f"revision {facts.revision}" if facts.revision else "any revision"
        raise ModelError(f"{name!r} may run code of its own from the hub, at {at}; if you trust it, add ?trust_remote_code=true")
    return MtebEmbedder(facts, settings)


def _facts(name: str) -> Facts:
    """From the cache, unless mteb is imported already: then its registry may hold what the user added."""
    if "mteb" not in sys.modules and (kept := _kept()) and name in kept:
        return kept[name]
    registry = _registry()
    if not _kept():
        _keep({known: _of(meta) for known, meta in registry.items()})
    if name not in registry:
        raise OptionError(f"{name!r} is not one of the {len(registry)} models that mteb {version('mteb')} knows{nearest(name, registry)}")
    return _of(registry[name])


def _cache() -> Path:
    return cache_folder() / "mteb" / f"{version('mteb')}.json"


def _kept() -> dict[str, Facts]:
    try:
        return msgspec.json.decode(_cache().read_bytes(), type=dict[str, Facts])
    except (OSError, msgspec.DecodeError):
        return {}  # it is made again


def _keep(facts: dict[str, Facts]) -> None:
    _cache().parent.mkdir(parents=True, exist_ok=True)
    scratch = _cache().with_suffix(f".{os.getpid()}")
    scratch.write_bytes(msgspec.json.encode(facts))
    scratch.replace(_cache())


def _registry() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mteb.models.model_implementations import MODEL_REGISTRY

    return dict(MODEL_REGISTRY)


def _of(meta: Any) -> Facts:
    dims = meta.embed_dim if isinstance(meta.embed_dim, (list, tuple)) else [meta.embed_dim] if meta.embed_dim else []
    return Facts(
        name=meta.name,
        revision=meta.revision or "",
        dims=tuple(sorted(set(dims), reverse=True)),
        max_tokens=int(meta.max_tokens) if meta.max_tokens and math.isfinite(meta.max_tokens) else None,
        licence=meta.license or "",
        api="API" in meta.framework and not meta.open_weights,
        dense_text=meta.loader is not None and "dense" in meta.model_type and "text" in meta.modalities,
        remote=bool(meta.loader_kwargs.get("trust_remote_code")) or _mentions_remote_code(meta.loader),
    )


@cache
def _mentions_remote_code(loader: Any) -> bool:
    """Whether a loader of one family says trust_remote_code itself; mteb's general ones leave that to a model's arguments."""
    loader = getattr(loader, "func", loader)
    lines = loader.__mro__ if inspect.isclass(loader) else (loader,)
    special = [one for one in lines if one is not None and one.__module__.startswith("mteb.models.model_implementations")]
    return any("trust_remote_code" in inspect.getsource(one) for one in special)


class MtebEmbedder:
    """A model behind mteb's own wrapper; it is loaded by ``prepare``."""

    batch = 32

    def __init__(self, facts: Facts, settings: Settings) -> None:
        self._facts, self._device, self._task = facts, settings.device, settings.task
        self._wrapper: Any = None
        self._metadata: Any = None
        self.model = Model(
            provider="mteb",
            name=facts.name,
            revision=facts.revision,
            dim=facts.dims[0],
            max_tokens=facts.max_tokens,
            options=(("mteb", version("mteb")), ("task", settings.task or "")),  # the version, since prompts are its code
            **settings.facts()
            | {
                "mrl_dims": settings.mrl_dims or facts.dims[1:],
                "licence": settings.licence or facts.licence,
                "tokenizer": settings.tokenizer or f"hub:{facts.name}",
            },
        )

    def prepare(self) -> None:
        """Load the model; raises ModelError where mteb cannot, or where it isn't what mteb said of it."""
        if self._wrapper is None:
            self._metadata, self._wrapper = _task(self._task), self._load()
        dim = self.embed([Item("warms up, so that the first batch is timed like the others")], "query").vectors.shape[1]
        if dim != self.model.dim:
            raise ModelError(f"mteb's registry says {self.model.dim} dimensions, the model gives {dim}; write st/{self.model.name}")

    def _load(self) -> Any:
        registry = _registry()
        import mteb
        from mteb.models import EncoderProtocol
        from transformers.utils import logging

        name = self.model.name
        if name not in registry or _of(registry[name]) != self._facts:
            _cache().unlink(missing_ok=True)
            raise ModelError(f"mteb's registry says other things of {name!r} than were kept of it; run again")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about prompts, which are mteb's to know
            try:
                wrapper = mteb.get_model(name, device=self._device)
            except (OSError, ValueError, NotImplementedError) as error:
                raise ModelError(f"mteb cannot load {name!r}: {str(error).splitlines()[0]}") from error
        if not isinstance(wrapper, EncoderProtocol):
            raise ModelError(f"mteb's {name!r} searches by itself instead of giving vectors")
        return wrapper

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts; mteb puts the prompt of their role in front. ``tokens`` is -1 where mteb's wrapper shows no tokenizer."""
        from datasets import Dataset  # type: ignore[attr-defined]  # mypy sees our folder of that name
        from mteb.types import PromptType
        from torch.utils.data import DataLoader

        batches = DataLoader(Dataset.from_dict({"text": texts(items)}), batch_size=self.batch)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vectors = self._wrapper.encode(
                batches,
                task_metadata=self._metadata,
                hf_split="test",
                hf_subset="default",
                prompt_type=PromptType(role),
                batch_size=self.batch,
                show_progress_bar=False,
            )
        tensor = vectors.float().cpu().numpy() if hasattr(vectors, "cpu") else vectors
        return Embedded(np.asarray(tensor, dtype=np.float32), self._count(texts(items), PromptType(role)))

    def _count(self, plain: list[str], role: Any) -> NDArray[np.int64]:
        """Tokens of each text behind mteb's prompt, ``(n,)``: its wrapper of sentence-transformers shows both, others neither."""
        from mteb.models import SentenceTransformerEncoderWrapper as Wrapper

        if not isinstance(self._wrapper, Wrapper):
            return np.full(len(plain), -1, dtype=np.int64)
        prompts = self._wrapper.model_prompts or {}
        prompt = prompts.get(self._wrapper.get_prompt_name(self._metadata, role) or "", "")
        return count(self._wrapper.model.tokenizer, [prompt + text for text in plain])


def _task(name: str | None) -> Any:
    """The task that decides on prompts: one of mteb's, or one that no model can know."""
    import mteb
    from mteb.abstasks import AbsTaskRetrieval

    try:
        known = mteb.get_task(name or "SciFact").metadata
    except KeyError as error:
        raise OptionError(f"task {name!r} is not one of mteb's: {str(error.args[0]).splitlines()[0]}") from error
    return known if name else known.model_copy(update={"name": "bakeoff", "prompt": AbsTaskRetrieval.abstask_prompt})
