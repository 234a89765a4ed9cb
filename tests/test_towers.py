"""Models with a tower for texts and one for images, in the layouts of their families: each held against transformers itself, one item at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from test_images import draw
from test_st_families import lay_out, unit
from towers import bare_clip, direct, tiny_blip2, tiny_siglip1, tiny_siglip2

from harness import catalog
from harness.embedder import Item
from harness.errors import ModelError, OptionError
from providers import _siglip

TEXTS = ["a Red dog", "the cat"]
sentencepiece = pytest.mark.skipif(
    find_spec("sentencepiece") is None, reason="NOT RUN: sentencepiece is not installed, which SigLIP 1 needs"
)


def ready(spec: str) -> Any:
    embedder: Any = catalog.load(spec)
    embedder.prepare()
    return embedder


def mixed(paths: list[Path]) -> list[Item]:
    return [Item(image=paths[0]), Item(TEXTS[0]), Item(image=paths[1]), Item(TEXTS[1], image=paths[2])]


def by_hand(written: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """What mixed items should be, of unit vectors of texts and of images."""
    return unit(np.stack([drawn[0], written[0], drawn[1], written[1] + drawn[2]]))


@pytest.mark.parametrize("made", [bare_clip, tiny_siglip2, pytest.param(tiny_siglip1, marks=sentencepiece)])
def test_every_family_gives_what_its_own_towers_give(made: Callable[[Path], Path], tmp_path: Path) -> None:
    folder, paths = made(tmp_path / "model"), draw(tmp_path / "pictures", 3)
    written, drawn = direct(folder, [text.lower() for text in TEXTS], paths)
    embedder = ready(f"st/{folder}")
    np.testing.assert_allclose(unit(embedder.embed(mixed(paths), "query").vectors), by_hand(written, drawn), atol=1e-5)
    assert (embedder.model.dim, embedder.model.max_tokens) == (drawn.shape[1], 16)
    plain = embedder.embed([Item(text) for text in (*TEXTS, "the cat and the dog " * 9)], "document").vectors[:2]
    np.testing.assert_allclose(unit(plain), written, atol=1e-5)


def test_siglip_2_reads_lower_case_which_its_tokenizer_does_not_make(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tiny_siglip2(tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(folder)
    assert theirs("a Red dog")["input_ids"] != theirs("a red dog")["input_ids"], (
        "transformers does it by itself now: providers/_siglip.py can go"
    )
    embedder = ready(f"st/{folder}")
    found = embedder.embed([Item("a Red dog"), Item("a red dog")], "query").vectors
    np.testing.assert_array_equal(*found)
    assert dict(embedder.model.options)["texts"] == "lower case"


def test_siglip_1_without_sentencepiece_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_siglip2(tmp_path / "model")
    tiny.change(folder / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    monkeypatch.setattr(_siglip, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"SiglipTokenizer needs the package sentencepiece: pip install 'bakeoff\[siglip\]'"):
        ready(f"st/{folder}")


@pytest.fixture(scope="module")
def blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_blip2(tmp_path_factory.mktemp("models") / "blip2")


def blip2_directly(folder: Path, texts: list[str], paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of texts ``(n, dim)`` and of each query of the images ``(n, queries, dim)`` by the whole model's forward."""
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, Blip2ForImageTextRetrieval

    net, tokenizer = Blip2ForImageTextRetrieval.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    written, drawn = [], []
    for at in range(max(len(texts), len(paths))):
        text, path = texts[min(at, len(texts) - 1)], paths[min(at, len(paths) - 1)]
        given = tokenizer([text], return_tensors="pt")
        pixels = processor(images=[Image.open(path).convert("RGB")], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            seen = net(pixel_values=pixels, input_ids=given["input_ids"], attention_mask=given["attention_mask"])
        written.append(seen.text_embeds[0].numpy())
        drawn.append(seen.image_embeds[0].numpy())
    return np.stack(written[: len(texts)]), np.stack(drawn[: len(paths)])


@pytest.mark.parametrize("pooling", ["", "mean", "cls"])
def test_blip_2_gives_its_projections_of_a_text_and_of_an_images_queries(blip2: Path, tmp_path: Path, pooling: str) -> None:
    paths = draw(tmp_path, 3)
    written, each = blip2_directly(blip2, TEXTS, paths)
    assert np.abs(each[:, 0] - each[:, 1]).max() > 0.01, "the queries see different things"
    drawn = unit(each[:, 0] if pooling == "cls" else each.mean(axis=1))
    embedder = ready(f"hf/{blip2}?pooling={pooling}" if pooling else f"hf/{blip2}")
    found = embedder.embed(mixed(paths), "document")
    np.testing.assert_allclose(unit(found.vectors), by_hand(written, drawn), atol=1e-5)
    np.testing.assert_allclose(unit(embedder.embed([Item(text) for text in TEXTS], "query").vectors), written, atol=1e-5)
    assert found.tokens.tolist() == [0, 9, 0, 8]
    assert (embedder.model.dim, embedder.model.max_tokens) == (12, 32)


def test_blip_2s_prompts_cutting_and_identity(blip2: Path) -> None:
    prompted, plain = ready(f"hf/{blip2}?query_prompt=a photo of "), ready(f"hf/{blip2}?max_tokens=6")
    of_prompted = prompted.embed([Item("dog")], "query").vectors
    np.testing.assert_allclose(of_prompted, prompted.embed([Item("a photo of dog")], "document").vectors, atol=1e-6)
    cut = plain.embed([Item("abcdefgh"), Item("abcd")], "query")
    np.testing.assert_allclose(*cut.vectors, atol=1e-6)
    assert cut.tokens.tolist() == [10, 6]
    specs = ("", "?pooling=cls", "?max_tokens=6", "?query_prompt=a ")
    assert len({catalog.load(f"hf/{blip2}{options}").model.digest() for options in specs}) == len(specs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("pooling=last", "pooling 'last' is not one of those for vectors of an image: cls, mean"),
        ("layer=1", "layer has no effect on a model with a tower for texts and one for images"),
        ("max_tokens=99", "max_tokens 99 is more than the 40 positions"),
        ("text_tower=org/name", "text_tower has no effect: BLIP-2 has its own"),
    ],
)
def test_options_that_mean_nothing_to_towers_are_refused(blip2: Path, options: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        catalog.load(f"hf/{blip2}?{options}")


def test_a_blip_2_that_was_made_to_write_captions_lacks_the_projections(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_blip2(tmp_path / "model")
    kept = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "text_projection" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="weights are not in its files, text_projection"):
        ready(f"hf/{folder}")


VISION = """
from transformers import ViTConfig, ViTModel


class NomicVisionConfig(ViTConfig):
    model_type = "own_vision"


class NomicVisionModel(ViTModel):
    config_class = NomicVisionConfig
"""


def vision(folder: Path, width: int = 32) -> Path:
    """An image model with code of its own, as nomic-embed-vision-v1.5 is one."""
    import torch
    from safetensors.torch import save_file
    from transformers import ViTConfig, ViTModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    net = ViTModel(ViTConfig(image_size=16, patch_size=8, **sizes))
    net.save_pretrained(folder)
    save_file(net.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})  # transformers writes a ViT's names of old
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    (folder / "own.py").write_text(VISION)
    code = {"AutoConfig": "own.NomicVisionConfig", "AutoModel": "own.NomicVisionModel"}
    tiny.change(folder / "config.json", model_type="own_vision", architectures=["NomicVisionModel"], auto_map=code)
    return folder


def class_tokens(folder: Path, paths: list[Path]) -> np.ndarray:
    """The first token's state of each image by transformers' ViT, without that code."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoImageProcessor, ViTConfig, ViTModel

    own = json.loads((folder / "config.json").read_text())
    net = ViTModel(ViTConfig(**{key: own[key] for key in own if key not in ("model_type", "auto_map", "architectures")})).eval()
    net.load_state_dict(load_file(folder / "model.safetensors"))
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    opened = [processor(images=[Image.open(path).convert("RGB")], return_tensors="pt") for path in paths]
    with torch.inference_mode():
        return np.stack([net(**pixels).last_hidden_state[0, 0].numpy() for pixels in opened])


def test_an_image_model_beside_a_text_model_reads_images_and_that_one_texts(tmp_path: Path) -> None:
    """nomic-embed-vision: the image's first token; the text's mean, put through a layer norm."""
    from safetensors.numpy import load_file, save_file

    prompts = {"query": "search_query: ", "document": "search_document: "}
    seeing = vision(tmp_path / "vision")
    reading = lay_out(tiny.build(tmp_path / "text", "nomic_bert"), "mean", normalize=False, **prompts)
    weights = load_file(reading / "model.safetensors")
    last = [name for name in weights if "layers.1." in name and "norm" in name and name.endswith("bias")]
    assert last, "so that the states have a mean, as trained ones have"
    save_file(
        weights | {name: np.arange(32, dtype=np.float32) / 8 for name in last}, reading / "model.safetensors", metadata={"format": "pt"}
    )
    paths = draw(tmp_path / "pictures", 3)
    drawn = unit(class_tokens(seeing, paths))
    spec = f"hf/{seeing}?text_tower={reading}&trust_remote_code=true"
    embedder, text = ready(spec), ready(f"st/{reading}")
    for role in ("query", "document"):
        means = text.embed([Item(one) for one in TEXTS], role).vectors
        written = unit(means - means.mean(axis=1, keepdims=True))
        found = embedder.embed(mixed(paths), role)
        np.testing.assert_allclose(unit(found.vectors), by_hand(written, drawn), atol=1e-5)
        assert found.tokens.tolist() == [0, len(prompts[role]) + 11, 0, len(prompts[role]) + 9]
    assert (embedder.model.query_prompt, embedder.model.max_tokens, embedder.model.dim) == ("search_query: ", 38, 32)
    pooled = ready(f"{spec}&pooling=mean")
    assert not np.allclose(*(one.embed([Item(image=paths[0])], "document").vectors for one in (embedder, pooled)), atol=1e-3)
    assert len({one.model.digest() for one in (embedder, pooled, text)}) == 3


def test_both_towers_are_part_of_the_identity_and_no_code_runs_without_consent(tmp_path: Path) -> None:
    seeing, reading = vision(tmp_path / "vision"), lay_out(tiny.build(tmp_path / "text", "bert"), "mean")
    spec = f"hf/{seeing}?text_tower={reading}"
    before = catalog.load(spec).model.digest()
    assert before != catalog.load(f"{spec}&max_tokens=20").model.digest()
    tiny.change(reading / "config.json", trained="anew")
    assert catalog.load(spec).model.digest() != before
    with pytest.raises(ModelError, match=r"trust_remote_code=true"):
        ready(spec)


def test_towers_of_different_widths_are_refused(tmp_path: Path) -> None:
    seeing, reading = vision(tmp_path / "vision", width=16), lay_out(tiny.build(tmp_path / "text", "bert"), "mean")
    with pytest.raises(ModelError, match=r"its images have vectors of 16 dimensions, the texts of st/.* 32"):
        ready(f"hf/{seeing}?text_tower={reading}&trust_remote_code=true")


MODULE = """
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast


class Transformer(nn.Module):
    save_in_root = True

    def __init__(self, folder="", **rest):
        super().__init__()
        self.tokenizer, self.max_seq_length = PreTrainedTokenizerFast.from_pretrained(folder), 38

    def tokenize(self, texts, padding=True):
        return {"sentence_embedding": torch.tensor([[float(len(text))] * 8 for text in texts])}

    def forward(self, features):
        return features

    def get_sentence_embedding_dimension(self):
        return 8

    @classmethod
    def load(cls, folder, **rest):
        return cls(folder)
"""


def test_a_module_of_old_that_does_not_say_that_it_reads_images_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    """Jina CLIP's layout: its modules.json names a module of its own."""
    tiny.tokenizer(tmp_path, "bert")
    tiny.change(
        tmp_path / "config.json", model_type="jina_clip", projection_dim=8, text_config={"embed_dim": 8}, vision_config={"embed_dim": 8}
    )
    (tmp_path / "custom_st.py").write_text(MODULE)
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]))
    embedder = ready(f"st/{tmp_path}?trust_remote_code=true")
    np.testing.assert_array_equal(embedder.embed([Item("abc")], "query").vectors, np.full((1, 8), 3))
    with pytest.raises(
        ModelError, match="has an image tower, but the module it is loaded by tells sentence-transformers that it reads texts only"
    ):
        embedder.embed([Item(image=draw(tmp_path, 1)[0])], "document")
