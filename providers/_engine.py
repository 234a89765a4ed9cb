"""How local models embed texts: tokenised once, in batches of so many tokens with their padding, in the precision of their identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Embedded
from harness.errors import ModelError

Ids = NDArray[np.int32]
Vectors = NDArray[np.float32]
Tokenise = Callable[[Sequence[str]], tuple[list[Ids], NDArray[np.int64]]]
_CPU_TOKENS = 2048
"""With padding: what a layer makes of so many stays in the cache. torch in bfloat16 is a tenth slower at 4,096 (MiniLM, 2 cores)."""
_FLOAT32_ATTENTION = "bakeoff-float32"
_GPU_TOKENS = 65_536
"""With padding; where a GPU has no room for so many, half as many are tried, and so on."""
_AHEAD = 2048
"""Texts that are tokenised while those before them are computed."""


def tokenise(tokenizer: Any, texts: Sequence[str], limit: int | None) -> tuple[list[Ids], NDArray[np.int64]]:
    """The tokens of each text as the model reads them, at most ``limit``, and how many there were, ``(n,)``, special ones included.

    The tokenizer keeps what it cuts off, so that texts are tokenised once. Slow ones don't, and cut in a second pass.
    """
    whole = [text.encode("utf-8", "replace").decode() for text in texts]  # it takes no half surrogate pairs
    if not tokenizer.is_fast:
        return _slowly(tokenizer, whole, limit)
    own = tokenizer.backend_tokenizer
    own.no_padding()
    own.no_truncation()
    if limit:
        own.enable_truncation(limit, direction=tokenizer.truncation_side)
    special = own.num_special_tokens_to_add(is_pair=False)
    encoded = own.encode_batch_fast(whole)
    counts = [len(one) + sum(len(rest) - special for rest in one.overflowing) for one in encoded]
    return [np.array(one.ids, dtype=np.int32) for one in encoded], np.array(counts, dtype=np.int64)


def _slowly(tokenizer: Any, texts: list[str], limit: int | None) -> tuple[list[Ids], NDArray[np.int64]]:
    ids = list(tokenizer(texts, truncation=False, padding=False, verbose=False)["input_ids"])
    counts = np.array([len(one) for one in ids], dtype=np.int64)
    if limit and len(long := np.flatnonzero(counts > limit)):
        cut = tokenizer([texts[row] for row in long], truncation=True, max_length=limit)["input_ids"]
        for row, short in zip(long, cut, strict=True):
            ids[row] = short
    return [np.array(one, dtype=np.int32) for one in ids], counts


@dataclass(slots=True)
class Budget:
    """How many tokens a batch may have with its padding; halved for good where memory does not reach."""

    tokens: int

    @classmethod
    def of(cls, device: str) -> Budget:
        """What to begin with on a torch device: cpu, cuda or mps."""
        return cls(_CPU_TOKENS if device == "cpu" else _GPU_TOKENS)


def embed(texts: Sequence[str], dim: int, budget: Budget, tokenise: Tokenise, run: Callable[[list[Ids]], Vectors]) -> Embedded:
    """The vectors of texts, in their order. ``run`` makes ``(n, dim)`` of the tokens of n texts; the longest are the first.

    Raises ModelError for a text without a token, and for one alone that memory does not reach for.
    """
    vectors, tokens = np.empty((len(texts), dim), dtype=np.float32), np.empty(len(texts), dtype=np.int64)
    for start, (ids, counts) in _ahead(texts, tokenise):
        if not counts.all():
            raise ModelError(f"text {texts[start + int(np.argmin(counts))]!r} has no token in the model's vocabulary")
        tokens[start : start + len(ids)] = counts
        order = np.argsort([-len(one) for one in ids], kind="stable")
        while len(order):
            rows = order[: max(1, budget.tokens // len(ids[order[0]]))]
            found = _within(budget, [ids[row] for row in rows], run)
            if found is not None:
                vectors[start + rows], order = found, order[len(rows) :]
    return Embedded(vectors, tokens)


def _ahead(texts: Sequence[str], tokenise: Tokenise) -> Iterator[tuple[int, tuple[list[Ids], NDArray[np.int64]]]]:
    """Where each part of the texts begins, and its tokens; the next part is tokenised while one is computed."""
    starts = range(0, len(texts), _AHEAD)
    if len(starts) == 1:
        yield 0, tokenise(texts)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting = [thread.submit(tokenise, texts[start : start + _AHEAD]) for start in starts[:1]]
        for start in starts:
            done = waiting.pop()
            if start + _AHEAD < len(texts):
                waiting.append(thread.submit(tokenise, texts[start + _AHEAD : start + 2 * _AHEAD]))
            yield start, done.result()


def _within(budget: Budget, ids: list[Ids], run: Callable[[list[Ids]], Vectors]) -> Vectors | None:
    """The vectors of a batch; None where memory does not reach, and then the budget is half of what was tried."""
    try:
        return run(ids)
    except RuntimeError as error:  # torch.OutOfMemoryError is one; MPS and CPU raise it as it is
        if "memory" not in str(error).lower():
            raise
        if len(ids) == 1:
            fix = "give a smaller max_tokens, or device=cpu"
            raise ModelError(f"memory does not reach for a text of {len(ids[0])} tokens: {fix}") from error
    budget.tokens = len(ids) * len(ids[0]) // 2
    import torch

    if torch.cuda.is_available():  # what the failed batch had, once nothing refers to it
        torch.cuda.empty_cache()
    return None


def padded(ids: list[Ids], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens and mask ``(n, longest)``, padding on the right."""
    shape = len(ids), max(map(len, ids))
    tokens, mask = np.full(shape, pad, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, one in enumerate(ids):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    return tokens, mask


def lower(model: Any, compute: str) -> None:
    """Hold the weights of a torch model's matrix products in the precision that they are computed in."""
    import torch

    if compute == "float32":
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(getattr(torch, compute))
    part = next((part for part in model.modules() if hasattr(part, "set_attn_implementation")), None)
    if part is not None and part.device.type == "cpu" and part.config._attn_implementation == "sdpa":  # noqa: SLF001
        part.set_attn_implementation(_float32_attention())


def _float32_attention() -> str:
    """The name under which transformers knows attention in float32: in bfloat16 it moves SciFact's nDCG@10 by 0.002."""
    import torch
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    def attention(module: Any, query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return sdpa_attention_forward(module, query.float(), key.float(), value.float(), *rest, **named)

    AttentionInterface.register(_FLOAT32_ATTENTION, attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_FLOAT32_ATTENTION, sdpa_mask)
    return _FLOAT32_ATTENTION


def computing(device: str, compute: str) -> AbstractContextManager[Any]:
    """Matrix products in here are in that precision; sums, norms and softmax stay in float32, as in training."""
    import torch

    return torch.autocast(device, getattr(torch, compute)) if compute != "float32" else nullcontext()
