"""``hf/<hub id or folder>``: any text model of transformers, with the pooling, the layer and the instruction that you name; BLIP-2.

Token vectors become one vector here, so that families without a sentence-transformers folder, decoders and plain language models
can be measured too. What identifies the model is read from its small JSON files: a run whose vectors are all in the store loads neither
torch nor weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded, Embedder, Item, Model, Pooling, Role, Settings, TokenVectors, texts
from harness.errors import ModelError, OptionError
from providers import _compute, _engine, _hidden, _hub, _openvino, _pool, _towers
from providers._hub import Source, json_file

SETTINGS = (
    "revision",
    "query_prompt",
    "document_prompt",
    "instruction",
    "max_tokens",
    "pooling",
    "layer",
    "bidirectional",
    "dim",
    "text_tower",
    "device",
    "compute",
    "engine",
    "trust_remote_code",
    "code_revision",
)
_WIDTH = ("hidden_size", "d_model", "n_embd", "dim")
_DEPTH = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
"""config.json's words for one thing: those of BERT, T5, GPT-2 and DistilBERT."""
_LOADED: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
"""Weights in use: embedders that differ in prompts, cutting, layer or pooling share them. Tokenizers are not: prompts add words to them."""


def load(name: str, settings: Settings) -> Embedder:
    """``name`` is a folder (``hf/./models/mine``, ``hf//abs/path``) or a hub id (``hf/org/name``)."""
    source = _hub.find("hf", name, settings)
    if settings.text_tower or json_file(source.folder / "config.json").get("model_type") == _towers.BLIP2:
        return _towers.load(source, settings)
    return TransformersEmbedder(source, settings)


class TransformersEmbedder:
    """One transformers model; weights are loaded by ``prepare``."""

    batch = 32

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source, self._settings = source, settings
        self._model: Any = None
        self._tokenizer: Any = None
        self._end: list[int] = []
        self._hidden: _openvino.Hidden | None = None
        config = json_file(source.folder / "config.json")
        if not config:
            raise ModelError(f"{source.folder} has no config.json: it is no model of transformers")
        _hub.check_max_tokens(settings, _hub.positions(config))
        text = config | (config.get("text_config") or {})
        self._pooling = settings.pooling or _saved_pooling(source.folder)
        self._layer = _layer(settings.layer, text)
        self._wants_end = bool(json_file(source.folder / "tokenizer_config.json").get("add_eos_token"))
        if self._pooling == "own" and (settings.layer is not None or settings.bidirectional):
            raise OptionError("pooling=own leaves everything to the model's code: layer and bidirectional have no effect on it")
        kind = "" if self._layer is not None or self._pooling == "own" or settings.bidirectional else str(config.get("model_type", ""))
        self._how = _compute.options(settings, kind)
        self.model = Model(
            provider="hf",
            name=source.name,
            revision=source.revision(),
            dim=self._dim(text),
            **settings.prompts(*_hub.prompts(source.folder)),
            pooling=self._pooling,
            max_tokens=settings.max_tokens or _hub.token_limit(source.folder, config),
            options=self._options(),
            **settings.facts() | {"tokenizer": self._counter()},
        )

    def _dim(self, config: dict[str, Any]) -> int:
        names = ("embed_dim", "projection_dim", *_WIDTH) if self._pooling == "own" else _WIDTH
        if dim := self._settings.dim or next((int(config[name]) for name in names if config.get(name)), None):
            return dim
        raise OptionError("config.json doesn't say how long the vectors are; add ?dim=...")

    def _options(self) -> tuple[tuple[str, str], ...]:
        options = [*self._how, *_hub.code_options(self._settings)]
        if self._layer is not None:
            options.append(("layer", str(self._layer)))
        if self._settings.bidirectional:
            options.append(("attention", "bidirectional"))
        return tuple(options)

    def _counter(self) -> str:
        """Where harness/tokens.py finds the tokenizer."""
        path = self._source.folder / "tokenizer.json"
        if not path.is_file():
            return ""
        return f"{'ended' if self._wants_end and not _ends(path, self._source.folder) else 'file'}:{path}"

    def prepare(self) -> None:
        """Load the weights; raises ModelError where they don't fit what the files say."""
        import torch

        self._load()
        short, long = self._tokenise(["one", "one two three"])[0]
        first = self._run([short], [])[0]
        if first.shape[-1] != self.model.dim:
            raise ModelError(f"dim is said to be {self.model.dim}, the model gives {first.shape[-1]}: say dim={first.shape[-1]}")
        if self._settings.bidirectional and torch.allclose(first[0, 0], self._run([long], [])[0][0, 0], atol=1e-5):
            raise ModelError("bidirectional has no effect on this architecture: transformers lets it read forwards only")
        self._fit(dict(self._how))
        self.embed([Item("warms up, so that the first batch is timed like the others")], "query")

    def _fit(self, options: dict[str, str]) -> None:
        """Give the model the precision and the engine that its identity names."""
        if "engine" in options:
            self._hidden = _openvino.compiled(self._model, options["compute"])
        else:
            self._compute = options["compute"]
            _engine.lower(self._model, self._compute)

    def _load(self) -> None:
        import torch
        from transformers import AutoTokenizer

        chosen, where = self._settings, self._source.where
        pinned = {"revision": self._source.commit, "trust_remote_code": chosen.trust_remote_code, "code_revision": chosen.code_revision}
        device = chosen.device or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
        key = (where, self.model.revision, device, chosen.bidirectional, self._pooling == "own", *self._how, *pinned.values())
        with _hub.loading(unused=() if self._pooling == "own" else ("pooler.",)):
            self._model = _LOADED.get(key)
            self._compute = "float32" if self._model is None or "engine" in dict(self._how) else dict(self._how)["compute"]
            if self._model is None:
                self._model = _LOADED[key] = self._weights(pinned).to(device).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(where, **pinned)
        if self._wants_end and (file := self._source.folder / "tokenizer.json").is_file():
            self._tokenizer.backend_tokenizer.post_processor = _read(file).post_processor  # transformers 5 may have dropped the first token
        self._keep_whole()
        last = self._tokenizer(["a"])["input_ids"][0][-1]
        self._end = [self._tokenizer.eos_token_id] if self._wants_end and last != self._tokenizer.eos_token_id else []
        self._budget = _engine.Budget.of(device.partition(":")[0])

    def _weights(self, pinned: dict[str, Any]) -> Any:
        import torch
        from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel, AutoModelForTextEncoding

        where = self._source.where
        config = AutoConfig.from_pretrained(where, **pinned)
        config.use_cache = False
        if self._settings.bidirectional:
            config.is_causal = False  # transformers' masks heed it: masking_utils.create_causal_mask
        halved = bool(getattr(config, "is_encoder_decoder", False))  # of T5 and its like only the encoder is wanted
        kind = AutoModelForTextEncoding if halved and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel
        model = kind.from_pretrained(where, config=config, dtype=torch.float32, **pinned)
        return model.get_encoder() if halved and hasattr(model, "decoder") else model

    def _keep_whole(self) -> None:
        """Words of a prompt like ``<encoder-only>`` that are entries of the vocabulary are no text to be split (UniXcoder)."""
        words = {word for role in ("query", "document") for word in _bracketed(self.model.prompt(role))}
        known = sorted(words & self._tokenizer.get_vocab().keys() - set(self._tokenizer.all_special_tokens))
        if known:
            self._tokenizer.add_tokens(known, special_tokens=True)

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts with the prompt of their role, batches sorted by tokens; raises ModelError for an item that is only an image."""
        prompt = self.model.prompt(role)
        skipped = self._skipped(prompt)

        def run(ids: list[_engine.Ids]) -> _engine.Vectors:
            hidden, mask, own = self._run(ids, skipped)
            vectors = hidden.float() if self._pooling == "own" else _pool.pool(hidden.float(), mask, own, self._pooling)
            return np.asarray(vectors.cpu())

        return _engine.embed(texts(items, prompt), self.model.dim, self._budget, self._tokenise, run)

    def layers(self) -> tuple[str, ...]:
        """The names of the hidden states that ``layer`` numbers."""
        return _hidden.layers(self._model)

    def token_vectors(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The hidden states of each text as it stands, without prompt and end token; raises ModelError for a slow tokenizer."""
        with _engine.computing(self._model.device.type, self._compute):
            return _hidden.token_vectors(self._model, self._tokenizer, texts, self.model.max_tokens)

    def _tokenise(self, prompted: Sequence[str]) -> tuple[list[_engine.Ids], NDArray[np.int64]]:
        """The tokens of each text as the model reads them, and how many there are before anything is cut off, ``(n,)``."""
        limit, end = self.model.max_tokens, np.array(self._end, dtype=np.int32)
        ids, tokens = _engine.tokenise(self._tokenizer, prompted, limit - len(end) if limit else None)
        return [np.concatenate([one, end]) for one in ids] if len(end) else ids, tokens + len(end)

    def _skipped(self, prompt: str) -> list[int]:
        """The tokens of a prompt that is read but not pooled, with the special one at its end; none where the whole text is pooled."""
        if not prompt or self._pooling not in ("text-mean", "own"):
            return []
        found: list[int] = self._tokenizer([prompt], verbose=False)["input_ids"][0]
        return found

    def _run(self, ids: list[_engine.Ids], skipped: list[int]) -> tuple[Any, Any, Any]:
        """Hidden states ``(n, tokens, dim)`` of the chosen layer, or the model's own vectors; what is no padding; what is no prompt.

        Padding stands on the right, where no decoder sees it, unless the model's own code pools and so may count on a side.
        """
        import torch

        width = max(map(len, ids))
        pad = next((token for token in (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id) if token is not None), 0)
        left = self._pooling == "own" and self._tokenizer.padding_side == "left"
        starts = [width - len(one) if left else 0 for one in ids]
        tokens = torch.full((len(ids), width), pad)
        for row, (one, start) in enumerate(zip(ids, starts, strict=True)):
            tokens[row, start : start + len(one)] = torch.from_numpy(one)
        places, begins = torch.arange(width)[None], torch.tensor(starts)[:, None]
        lengths = torch.tensor([len(one) for one in ids])[:, None]
        mask = (places >= begins) & (places < begins + lengths)
        own = mask & (places >= begins + torch.tensor([min(_common(skipped, one), len(one) - 1) for one in ids])[:, None])
        given: dict[str, Any] = {"input_ids": tokens, "attention_mask": mask.long()}
        if self._pooling == "own" and "pool_mask" in inspect.signature(self._model.forward).parameters:
            given["pool_mask"] = own.long()  # NV-Embed's code: which tokens it may pool
        if self._layer is not None:
            given["output_hidden_states"] = True
        device = self._model.device
        if self._hidden:
            return torch.from_numpy(self._hidden(tokens.numpy(), mask.long().numpy())), mask, own
        with torch.inference_mode(), _engine.computing(device.type, self._compute):
            output = self._model(**{name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in given.items()})
        if self._pooling == "own":
            return _pool.sentence(output), mask, own
        hidden = output.last_hidden_state if self._layer is None else output.hidden_states[self._layer]
        return hidden, mask.to(device), own.to(device)


def _saved_pooling(folder: Path) -> Pooling:
    """What a sentence-transformers folder says of its pooling; raises OptionError where nothing is said."""
    config = json_file(folder / "1_Pooling" / "config.json")
    said = config.get("pooling_mode") or [
        name.removeprefix("pooling_mode_") for name, on in config.items() if name.startswith("pooling_mode_") and on is True
    ]
    modes = [said] if isinstance(said, str) else list(said)
    if len(modes) == 1 and (found := _pool.SAVED_AS.get(modes[0])):
        return "text-mean" if found == "mean" and config.get("include_prompt") is False else found
    raise OptionError("nothing in the model's files says how its token vectors are pooled; add ?pooling=mean, cls, last or another")


def _layer(layer: int | None, config: dict[str, Any]) -> int | None:
    """The hidden state to take, counted from 0; None for what comes out of the last layer. Raises OptionError if there is none."""
    deep = next((int(config[name]) for name in _DEPTH if config.get(name)), None)
    if layer is None or deep is None:
        return layer
    if not -deep - 1 <= layer <= deep:
        raise OptionError(f"layer {layer} is not one of the model's 0 to {deep}, or -1 to {-deep - 1} from the last")
    return None if layer in (deep, -1) else layer % (deep + 1)


def _ends(tokenizer: Path, folder: Path) -> bool:
    """Whether a tokenizer.json puts the end token behind a text.

    Where it doesn't but tokenizer_config.json has add_eos_token, as in e5-mistral, transformers 4 put it there and 5 doesn't, and
    last-token pooling reads another token without a word.
    """
    end = json_file(folder / "tokenizer_config.json").get("eos_token")
    return bool(_read(tokenizer).encode("a").tokens[-1:] == [end["content"] if isinstance(end, dict) else end])


def _read(tokenizer: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(tokenizer))


def _bracketed(prompt: str) -> set[str]:
    return {f"<{part.partition('>')[0]}>" for part in prompt.split("<")[1:] if ">" in part}


def _common(left: Sequence[int], right: NDArray[np.int32]) -> int:
    """How many tokens at the beginning are the same."""
    both = min(len(left), len(right))
    return next((at for at in range(both) if left[at] != right[at]), both)
