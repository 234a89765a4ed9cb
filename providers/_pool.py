"""From the hidden states of a text's tokens to one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.embedder import Pooling
from harness.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

SAVED_AS: dict[str, Pooling] = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
    "max": "max",
    "max_tokens": "max",
    "weightedmean": "weighted-mean",
    "weightedmean_tokens": "weighted-mean",
}
"""What sentence-transformers calls them in ``1_Pooling/config.json``."""


def pool(hidden: Tensor, mask: Tensor, own: Tensor, pooling: Pooling) -> Tensor:
    """Vectors ``(n, dim)`` of hidden states ``(n, tokens, dim)``; ``mask`` and ``own`` are bool ``(n, tokens)``.

    ``mask`` leaves padding out, on either side; ``own`` the prompt's tokens too. weighted-mean weights the first token 1, the second 2
    and so on (SGPT, arXiv:2202.08904, equation 2).
    """
    import torch

    rows = torch.arange(len(hidden), device=hidden.device)
    if pooling == "cls":
        return hidden[rows, mask.int().argmax(dim=1)]
    if pooling == "last":
        return hidden[rows, mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)]
    if pooling == "max":
        return hidden.masked_fill(~mask[:, :, None], float("-inf")).amax(dim=1)
    weights = (own if pooling == "text-mean" else mask).to(hidden.dtype)  # (n, tokens)
    if pooling == "weighted-mean":
        weights = weights * weights.cumsum(dim=1)
    return torch.einsum("nt,ntd->nd", weights / weights.sum(dim=1, keepdim=True), hidden)


def sentence(output: Any) -> Tensor:
    """The vectors ``(n, dim)`` that a model's own code makes of texts; raises ModelError where it makes none."""
    import torch

    names = ("sentence_embeddings", "sentence_embedding", "text_embeds", "pooler_output")
    keyed = [output[name] for name in names if isinstance(output, dict) and output.get(name) is not None]
    for found in (output, *keyed, *(output if isinstance(output, tuple) else ())):
        if isinstance(found, torch.Tensor) and found.ndim == 2:
            return found
    raise ModelError("its code makes no vectors of whole texts; choose pooling=mean, cls or last")
