"""Tiny random checkpoints of real architectures, saved in their families' own file layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SYMBOLS = "abcdefghijklmnopqrstuvwxyz:.<>|_ \n"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[EOS]")
ENDS = {"bert": "[CLS] $A [SEP]", "eos": "$A [EOS]", "bos": "[CLS] $A", "none": "$A"}
SHAPE = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
DECODER = SHAPE | {"num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "max_position_embeddings": 128}


def tokenizer(folder: Path, ends: str, *, extra: tuple[str, ...] = (), limit: int = 40, **settings: Any) -> None:
    """A tokenizer that takes letter by letter, with the special tokens that ``ends`` puts around a text.

    "none" goes with byte-level ones, as Qwen2's and GPT-2's are, whose pre-tokenizer transformers builds anew.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: at for at, token in enumerate((*SPECIAL, *SYMBOLS, *extra))}
    if ends == "none":
        vocabulary = {token: at for at, token in enumerate((*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *extra))}
        own = Tokenizer(models.BPE(vocabulary, []))
        own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        own = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        own.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    around = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]", "[EOS]")]
    own.post_processor = processors.TemplateProcessing(single=ENDS[ends], special_tokens=around)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[EOS]"}
    PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=limit, **names).save_pretrained(folder)
    change(folder / "tokenizer_config.json", **settings)


def change(path: Path, **keys: Any) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | keys))


def _encoder(name: str, **more: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**SHAPE | more))

    return make


ARCHITECTURES: dict[str, tuple[Callable[[], Any], str]] = {
    "bert": (_encoder("Bert", max_position_embeddings=64), "bert"),
    "roberta": (_encoder("Roberta", max_position_embeddings=66, pad_token_id=0), "bert"),
    "xlm-roberta": (_encoder("XLMRoberta", max_position_embeddings=66, pad_token_id=0), "bert"),
    "mpnet": (_encoder("MPNet", max_position_embeddings=66, pad_token_id=0), "bert"),
    "distilbert": (
        _encoder("DistilBert", dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=64, pad_token_id=0),
        "bert",
    ),
    "albert": (_encoder("Albert", embedding_size=16, max_position_embeddings=64), "bert"),
    "electra": (_encoder("Electra", embedding_size=16, max_position_embeddings=64), "bert"),
    "deberta-v3": (
        _encoder(
            "DebertaV2",
            max_position_embeddings=64,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=16,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
            type_vocab_size=0,
        ),
        "bert",
    ),
    "modernbert": (_encoder("ModernBert", max_position_embeddings=64, pad_token_id=0, cls_token_id=2, sep_token_id=3), "bert"),
    "nomic_bert": (_encoder("NomicBert", max_position_embeddings=64, head_dim=16), "bert"),
    "gte": (_encoder("Gte", max_position_embeddings=64, pad_token_id=0), "bert"),
    "mistral": (_encoder("Mistral", **DECODER), "bos"),
    "qwen2": (_encoder("Qwen2", **DECODER), "none"),
    "qwen3": (_encoder("Qwen3", **DECODER), "eos"),
    "gpt2": (_encoder("GPT2", n_positions=64, n_embd=32, n_layer=2, n_head=2), "none"),
}
"""name -> (makes the model, how its tokenizer ends a text)"""


def build(folder: Path, name: str, **settings: Any) -> Path:
    """Save a checkpoint of an architecture with its tokenizer; returns the folder."""
    from torch import manual_seed

    manual_seed(0)
    make, ends = ARCHITECTURES[name]
    make().eval().save_pretrained(folder)
    tokenizer(folder, settings.pop("ends", ends), **settings)
    return folder
