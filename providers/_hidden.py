"""Token vectors, layer by layer, of whatever is built on transformers: what ``TokenEmbedder`` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.embedder import TokenVectors
from harness.errors import ModelError

_BATCH = 32


def layers(model: Any) -> tuple[str, ...]:
    """The names of a transformer's hidden states: what goes into the first layer, then what comes out of each."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return ("input", *(str(at) for at in range(1, int(config.num_hidden_layers) + 1)))


def token_vectors(model: Any, tokenizer: Any, texts: Sequence[str], max_tokens: int | None) -> list[TokenVectors]:
    """The hidden states of each text, padding left out. ``model`` is a loaded transformers model, ``tokenizer`` its own.

    Raises ModelError where the tokenizer does not say which characters a token stands for.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError("its tokenizer does not say which characters a token stands for (it is none of the fast ones)")
    found: list[TokenVectors] = []
    size = _BATCH if tokenizer.pad_token is not None else 1  # many decoders have none
    for start in range(0, len(texts), size):
        found += _batch(model, tokenizer, list(texts[start : start + size]), max_tokens)
    return found


def _batch(model: Any, tokenizer: Any, texts: list[str], max_tokens: int | None) -> list[TokenVectors]:
    import torch

    limit = {"truncation": True, "max_length": max_tokens} if max_tokens else {}
    given = tokenizer(texts, padding=len(texts) > 1, return_offsets_mapping=True, return_attention_mask=True, return_tensors="pt", **limit)
    offsets = given.pop("offset_mapping").numpy()  # (texts, tokens, 2)
    with torch.inference_mode():
        output = model(**given.to(model.device), output_hidden_states=True)
    hidden = torch.stack(output.hidden_states, dim=1).float().cpu().numpy()  # (texts, layers, tokens, dim)
    masks = given["attention_mask"].bool().cpu().numpy()
    return [
        TokenVectors(places[mask].astype(np.int64), vectors[:, mask]) for places, vectors, mask in zip(offsets, hidden, masks, strict=True)
    ]
