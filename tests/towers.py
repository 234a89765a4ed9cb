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


def bare_clip(folder: Path) -> Path:
    """CLIP as openai/clip-vit-base-patch32 has it: a transformers folder without modules.json."""
    laid_out = tiny_clip(folder.parent / "laid out")
    return (laid_out / "0_CLIPModel").rename(folder)


def siglip_of_this_size(folder: Path, vocabulary: int) -> Path:
    """SigLIP's weights and image processor; both generations have the same ones, but for the vocabulary."""
    import torch
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**sizes, **ends, "vocab_size": vocabulary, "max_position_embeddings": 16},
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
    )
    torch.manual_seed(0)
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def tiny_siglip2(folder: Path) -> Path:
    """SigLIP 2 as google/siglip2-base-patch16-224 has it: GemmaTokenizer over upper and lower case letters, with an end."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS, *LETTERS.upper()]
    own = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, [], unk_token="<unk>", fuse_unk=True))
    own.normalizer = normalizers.Replace(" ", "▁")
    own.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    own.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    own.add_special_tokens(names[:5])
    siglip_of_this_size(folder, len(names))
    own.save(str(folder / "tokenizer.json"))
    said = {f"{name[1:-1]}_token": name for name in names[:5]}
    said |= {"add_bos_token": False, "add_eos_token": True, "do_lower_case": True, "padding_side": "right", "model_max_length": 16}
    said |= {"model_input_names": ["input_ids"], "tokenizer_class": "GemmaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


def tiny_siglip1(folder: Path) -> Path:
    """SigLIP as google/siglip-base-patch16-224 has it: SiglipTokenizer, whose pieces are in spiece.model."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    words = [" ".join(WORDS), "the cat and the dog sleep", LETTERS]
    ids = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    how = {"vocab_size": 40, "model_type": "unigram", "pad_piece": "<pad>", "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(words * 20), model_prefix=str(folder / "spiece"), **ids, **how)
    (folder / "spiece.vocab").unlink()
    size = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model")).get_piece_size()
    siglip_of_this_size(folder, size)
    said = {"do_lower_case": True, "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(said | {"tokenizer_class": "SiglipTokenizer"}))
    return folder


def tiny_siglip(folder: Path) -> Path:
    """SigLIP with a tokenizer over words, which needs no package of its own: a transformers folder without modules.json."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    siglip_of_this_size(folder, 20)
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


def tiny_blip2(folder: Path) -> Path:
    """BLIP-2 as Salesforce/blip2-itm-vit-g has it: Blip2ForImageTextRetrieval with BERT's tokenizer and a token that begins decoding."""
    import torch
    from transformers import BertTokenizerFast, Blip2Config, Blip2ForImageTextRetrieval
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(names))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        qformer_config={**sizes, "vocab_size": len(names) + 1, "use_qformer_text_input": True, "max_position_embeddings": 40},
        num_query_tokens=4,
        image_text_hidden_size=12,
    )
    torch.manual_seed(0)
    net = Blip2ForImageTextRetrieval(config)
    torch.nn.init.normal_(net.query_tokens)  # zeros would make an image's vectors all the same
    net.save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
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
