"""A loaded sentence-transformers model, whose modules are run here: in the precision, and by the engine, that its identity names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded
from providers import _engine, _hub, _openvino


class Pipeline:
    """``options`` is what ``_compute.options`` says. Weights of the first module, the transformer, are changed for it."""

    def __init__(self, model: Any, options: Mapping[str, str]) -> None:
        self.model = model
        self._budget = _engine.Budget.of(model.device.type)
        self._compute = options["compute"]
        self._hidden: _openvino.Hidden | None = None
        if options.get("engine") == "openvino":
            self._hidden, self._compute = _openvino.compiled(model[0].auto_model, self._compute), "float32"
        else:
            _engine.lower(model[0], self._compute)

    @property
    def plain(self) -> bool:
        """Whether nothing but sentence-transformers' usual modules turn texts into vectors; else its own ``encode`` has to be asked."""
        model, first = self.model, self.model[0]
        ours = all(type(module).__module__.startswith("sentence_transformers.") for module in model)
        if not ours or model.truncate_dim or any((model.module_kwargs or {}).values()):
            return False
        if type(first).__name__ != "Transformer":
            return type(first).__name__ == "StaticEmbedding"
        more = first.processing_kwargs or first.query_expansion or first.query_length or first.document_length
        usual = first.transformer_task == "feature-extraction" and set(first.modality_config) == {"text"}
        return usual and not more and not any(first.tokenizer("a").get("token_type_ids", ()))

    def computing(self) -> AbstractContextManager[Any]:
        """Whoever asks a part of the model by himself does so in here."""
        return _engine.computing(self.model.device.type, self._compute)

    def embed(self, prompted: Sequence[str], prompt: str, dim: int) -> Embedded:
        """The vectors of texts that have their prompt before them; only where ``plain``."""
        measured = prompt and hasattr(self.model[0], "_get_prompt_length")
        begins = self.model[0]._get_prompt_length(prompt) if measured else 0  # noqa: SLF001 - what pooling without the prompt leaves out
        return _engine.embed(prompted, dim, self._budget, self._tokenise, partial(self._run, begins=begins))

    def _tokenise(self, prompted: Sequence[str]) -> tuple[list[_engine.Ids], NDArray[np.int64]]:
        tokenizer, limit = self.model.tokenizer, self.model.max_seq_length
        if hasattr(tokenizer, "encode_batch_fast"):  # a bare tokenizers.Tokenizer, in static models
            ids = [np.array(one.ids, dtype=np.int32) for one in tokenizer.encode_batch_fast(list(prompted), add_special_tokens=False)]
            return ids, np.array([len(one) for one in ids], dtype=np.int64)
        return _engine.tokenise(tokenizer, prompted, limit if limit and limit < _hub.ANY_LENGTH else None)

    def _run(self, ids: list[_engine.Ids], begins: int) -> _engine.Vectors:
        """Vectors of a batch, ``(n, dim)``: the modules one after the other, of which only the first is in a lower precision."""
        import torch

        first, *rest = self.model
        given = self._given(ids)
        with torch.inference_mode():
            features: dict[str, Any] = {name: torch.from_numpy(values).to(self.model.device) for name, values in given.items()}
            if self._hidden:
                features["token_embeddings"] = torch.from_numpy(self._hidden(given["input_ids"], given["attention_mask"]))
            else:
                with self.computing():
                    features = first(features)
            if "token_embeddings" in features:
                features["token_embeddings"] = features["token_embeddings"].float()
                features["prompt_length"] = begins
            for module in rest:
                features = module(features)
            vectors: _engine.Vectors = features["sentence_embedding"].float().cpu().numpy()
        return vectors

    def _given(self, ids: list[_engine.Ids]) -> dict[str, NDArray[np.int64]]:
        """What the first module reads: texts side by side, or for static vectors one behind the other."""
        tokenizer = self.model.tokenizer
        if hasattr(tokenizer, "encode_batch_fast"):
            ends = np.cumsum([len(one) for one in ids])
            return {"input_ids": np.concatenate(ids).astype(np.int64), "offsets": np.concatenate([[0], ends[:-1]])}
        tokens, mask = _engine.padded(ids, tokenizer.pad_token_id or 0)
        kinds = {"token_type_ids": np.zeros_like(tokens)} if "token_type_ids" in tokenizer.model_input_names else {}
        return {"input_ids": tokens, "attention_mask": mask, **kinds}
