"""How many tokens a text has for a model: by its own tokenizer where that is on this machine, else an estimate. Nothing is downloaded.

``Model.tokenizer`` says where it is:

tiktoken:NAME     OpenAI's, if its table is in $TIKTOKEN_CACHE_DIR or in tiktoken's default cache
hub:ORG/NAME      the tokenizer.json of a model on the hub, if it is in the hub's local cache
file:PATH         a tokenizer.json, special tokens included
bare:PATH         a tokenizer.json, without special tokens
ended:PATH        a tokenizer.json, special tokens included, and an end token that its model takes beside them
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Item, Model, Role
from harness.errors import OptionError

Counts = NDArray[np.int64]
_TABLES = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""tiktoken's encodings and the SHA-256 of their tables (tiktoken_ext/openai_public.py)."""
_TABLE_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_BLOCK = 4096  # texts that are counted at once


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts the tokens of texts before anything is cut off, ``(n,)``. ``why`` says why it only estimates; empty where it is exact."""

    count: Callable[[Sequence[str]], Counts]
    why: str = ""

    @property
    def exact(self) -> bool:
        """Whether it is the model's own."""
        return not self.why


def count(model: Model, items: Sequence[Item], role: Role) -> Counts:
    """Tokens of each item with the prompt of its role, ``(n,)``; an image's own tokens are not counted."""
    prompt, tokenizer = model.prompt(role), of(model)
    blocks = [[prompt + item.full for item in items[start : start + _BLOCK]] for start in range(0, len(items), _BLOCK)]
    return np.concatenate([tokenizer.count(block) for block in blocks]) if blocks else np.zeros(0, dtype=np.int64)


def of(model: Model) -> Tokenizer:
    """The model's own tokenizer if it is on this machine, else an estimate that says why."""
    return _tokenizer(model.tokenizer)


@cache
def _tokenizer(where: str) -> Tokenizer:
    kind, _, name = where.partition(":")
    if kind == "tiktoken":
        return _tiktoken(name)
    if kind == "hub":
        return _from_hub(name)
    if kind in ("file", "bare", "ended"):
        return _read(name, special=kind != "bare", beside=kind == "ended")
    if where:
        raise OptionError(f"tokenizer {where!r} is not one of tiktoken:NAME, hub:ORG/NAME, file:PATH, bare:PATH and ended:PATH")
    return Tokenizer(estimate, "the model's tokenizer is not public")


def _read(path: str, *, special: bool, beside: int = 0) -> Tokenizer:
    from tokenizers import Tokenizer as Own

    try:
        own = Own.from_file(path)
    except Exception as error:  # the library raises nothing more special
        raise OptionError(f"tokenizer {path}: cannot be read as a tokenizer.json ({error})") from error
    own.no_truncation()
    own.no_padding()

    def count(texts: Sequence[str]) -> Counts:
        whole = [text.encode("utf-8", "replace").decode() for text in texts]  # it takes no half surrogate pairs
        return np.array([len(one.ids) + beside for one in own.encode_batch_fast(whole, add_special_tokens=special)], dtype=np.int64)

    return Tokenizer(count)


def _from_hub(name: str) -> Tokenizer:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "tokenizer.json")
    if not isinstance(path, str):
        return Tokenizer(estimate, f"the tokenizer of {name} is not cached; hf download {name} tokenizer.json caches it")
    return _read(path, special=True)


def table_folder() -> Path:
    """Where tiktoken keeps its tables: $TIKTOKEN_CACHE_DIR, else its default (tiktoken/load.py)."""
    default = Path(tempfile.gettempdir()) / "data-gym-cache"
    return Path(os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR") or default)


def tables() -> dict[str, bool]:
    """The encodings of tiktoken, and whether the table of each is on this machine, whole."""
    files = {name: hashlib.sha1(_TABLE_URL.format(name).encode(), usedforsecurity=False).hexdigest() for name in _TABLES}
    paths = {name: table_folder() / file for name, file in files.items()}
    return {name: path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == _TABLES[name] for name, path in paths.items()}


def _tiktoken(name: str) -> Tokenizer:
    """OpenAI's own. It keeps tables under the SHA-1 of their address and downloads what is not there or damaged, so we look first."""
    if name not in _TABLES:
        return Tokenizer(estimate, f"tiktoken's encoding {name!r} is not known here")
    if not tables()[name]:
        fix = f"python -c 'import tiktoken; tiktoken.get_encoding(\"{name}\")' caches it"
        return Tokenizer(estimate, f"tiktoken's table {name} is not cached; {fix}")
    import tiktoken

    encoding = tiktoken.get_encoding(name)

    def count(texts: Sequence[str]) -> Counts:
        return np.array([len(ids) for ids in encoding.encode_ordinary_batch(list(texts))], dtype=np.int64)

    return Tokenizer(count)


# Least squares against tiktoken's cl100k_base on 3,300 documents: English, German, Spanish, Arabic, Hindi, Chinese, Yoruba, Python.
# The total of a language is off by 13 % at most; that of bytes / 4 by 20 % to 50 %.
_BLANK, _MARK, _DIGIT, _LETTER, _ACCENTED, _OTHER, _INDIC, _HAN = range(8)
_TOKENS = np.array([0.0, 0.6, 0.9, 0.16, 1.9, 0.84, 1.22, 1.28])
_WORD = 0.39  # tokens that a run of plain letters is worth, beside its letters
_STARTS = {
    0x21: _MARK, 0x30: _DIGIT, 0x3A: _MARK, 0x41: _LETTER, 0x5B: _MARK, 0x61: _LETTER, 0x7B: _MARK, 0xC0: _ACCENTED, 0x250: _OTHER,
    0x900: _INDIC, 0x1100: _OTHER, 0x2E80: _HAN, 0xA000: _OTHER, 0xAC00: _HAN, 0xD7B0: _OTHER, 0xF900: _HAN, 0xFB00: _OTHER, 0x20000: _HAN,
}  # fmt: skip
_ENDS, _CLASS = np.array(list(_STARTS)), np.array([_BLANK, *_STARTS.values()])


def estimate(texts: Sequence[str]) -> Counts:
    """Tokens by the kinds of characters, for a vocabulary of about 100,000; at least 1 for each text."""
    return np.array([max(1, round(float(_weights(text).sum()))) for text in texts], dtype=np.int64)


def cut(text: str, most: int) -> str:
    """The beginning of a text that has at most so many tokens by the estimate: the same cut whatever tokenizers are at hand."""
    return text[: int(np.searchsorted(np.cumsum(_weights(text)), most, side="right"))]


def _weights(text: str) -> NDArray[np.float64]:
    """Tokens that each character is worth, ``(characters,)``."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _CLASS[np.searchsorted(_ENDS, points, side="right")]
    begins = (kinds == _LETTER) & (np.concatenate([[_BLANK], kinds[:-1]]) != _LETTER)
    return np.asarray(_TOKENS[kinds] + _WORD * begins)
