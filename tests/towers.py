"""Tiny random models with two towers, in the layouts of the real ones, and an independent way to their vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = "a red green blue dog cat photo of the".split()  # noqa: SIM905
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def clip_tokenizer(folder: Path, length: int) -> Any:
    """CLIP's own kind of tokenizer over single letters."""
    from transformers import CLIPTokenizer

    names = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({name: at for at, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)


def tiny_clip(folder: Path) -> Path:
    """CLIP as sentence-transformers/clip-ViT-B-32 has it: modules.json and everything else in 0_CLIPModel."""
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = clip_tokenizer(folder.parent / "letters", 16)
    last = len(tokenizer) - 1
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": last + 1, "max_position_embeddings": 16}
    text |= {"bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 8}, projection_dim=12)
    inside = folder / "0_CLIPModel"
    CLIPModel(config).save_pretrained(inside)
    tokenizer.save_pretrained(inside)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(inside)
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([module]))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {"sentence_transformers": "2.0.0"}}))
    return folder


def tiny_siglip(folder: Path) -> Path:
    """SigLIP as google/siglip-base-patch16-224 has it: a transformers folder without modules.json."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**sizes, **ends, "vocab_size": 20, "max_position_embeddings": 16},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
    )
    torch.manual_seed(0)
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {word: at + 3 for at, word in enumerate(WORDS)}
    own = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=own,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=16,
        model_input_names=["input_ids"],
    ).save_pretrained(folder)
    return folder


def direct(folder: Path, texts: list[str], pictures: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of texts and of pictures by transformers itself, one at a time, without sentence-transformers."""
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    how: dict[str, Any] = {"padding": "max_length", "max_length": 16} if "siglip" in model.config.model_type else {}
    with torch.inference_mode():
        written = [model.get_text_features(**tokenizer([text], return_tensors="pt", **how)).pooler_output[0].numpy() for text in texts]
        opened = [Image.open(picture).convert("RGB") for picture in pictures]
        drawn = [
            model.get_image_features(pixel_values=processor(images=[one], return_tensors="pt")["pixel_values"]).pooler_output[0].numpy()
            for one in opened
        ]
    one, other = np.stack(written), np.stack(drawn)
    return one / np.linalg.norm(one, axis=1, keepdims=True), other / np.linalg.norm(other, axis=1, keepdims=True)
