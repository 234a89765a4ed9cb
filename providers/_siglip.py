"""What SigLIP's texts need and its files leave out, for ``st/``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from providers._hub import json_file

LOWER = ("texts", "lower case")


def lowers(folder: Path) -> bool:
    """Whether a folder's texts were put in lower case in training while its tokenizer does not: SigLIP 2's say GemmaTokenizer.

    Source: "transforming the text to lower case before tokenization" (SigLIP 2, arXiv:2502.14786); transformers' Siglip2Tokenizer does it.
    """
    family = str(json_file(folder / "config.json").get("model_type", ""))
    return family.startswith("siglip") and _tokenizer(folder).startswith("Gemma")


def check(folder: Path) -> None:
    """Raises ModelError where a folder's tokenizer needs a package that is not there, with the extra of ours that brings it."""
    if _tokenizer(folder) == "SiglipTokenizer" and find_spec("sentencepiece") is None:
        raise ModelError("SiglipTokenizer needs the package sentencepiece: pip install 'bakeoff[siglip]'")


def _tokenizer(folder: Path) -> str:
    return str(json_file(folder / "tokenizer_config.json").get("tokenizer_class", ""))


def lower(tokenizer: Any) -> None:
    """Make a loaded tokenizer put texts in lower case first, as transformers' Siglip2Tokenizer does."""
    from tokenizers import normalizers

    own = tokenizer.backend_tokenizer
    own.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own.normalizer] if own.normalizer else [])])
