"""open-clip/: a tiny random model in OpenCLIP's own folder layout where the package is installed, else a stand-in for the package.

The stand-in shows that items, towers, prompts and identity are handled rightly, not that OpenCLIP's own code is called rightly: its tests
say "stand-in" in their names.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_images import draw

from harness import catalog, images
from harness.embedder import Item, Settings
from harness.errors import ModelError, OptionError
from providers import open_clip as provider

WHY = "NOT RUN: open_clip_torch is not installed (its torchvision does not load beside the CPU build of torch); its stand-in was tested"
installed = pytest.mark.skipif(find_spec("open_clip") is None, reason=WHY)
CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


TEXT = CONFIG["text_cfg"]
FAMILIES: dict[str, dict[str, Any]] = {
    "CLIP": CONFIG,
    "EVA-CLIP": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 224, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None},
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "CoCa": {
        "embed_dim": 12,
        "vision_cfg": {**CONFIG["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 15, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 15, "width": 12, "attn_pooler_heads": 2},
        "custom_text": True,
    },
}
"""As the files in open_clip's model_configs are, only smaller; timm has no EVA-02 of CLIP's smaller than base, so it is its plain one."""


def tiny_open_clip(folder: Path, config: dict[str, Any] = CONFIG) -> Path:
    """open_clip_config.json and open_clip_model.safetensors, as push_to_hf_hub writes them."""
    import open_clip  # type: ignore[import-not-found,unused-ignore]
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir()
    size = [config["vision_cfg"]["image_size"]] * 2
    preprocess = {"size": size, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if "custom_text" in config else open_clip.CLIP
    model = kind(**{key: value for key, value in config.items() if key != "custom_text"})
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


@installed
@pytest.mark.parametrize("family", FAMILIES)
def test_texts_and_pictures_have_the_vectors_that_open_clip_gives_them_one_at_a_time(family: str, tmp_path: Path) -> None:
    import open_clip
    import torch

    folder = tiny_open_clip(tmp_path / "model", FAMILIES[family])
    paths, texts = draw(tmp_path / "pictures"), ["a red dog", "the cat"]
    embedder: Any = catalog.load(f"open-clip/{folder}?query_prompt=a%20photo%20of%20")
    assert (embedder.model.dim, embedder.model.max_tokens) == (12, FAMILIES[family]["text_cfg"]["context_length"])
    embedder.prepare()
    model, see = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.inference_mode():
        written = [model.encode_text(tokenizer([f"a photo of {text}"]), normalize=True)[0].numpy() for text in texts]
        drawn = [model.encode_image(see(Image.open(path))[None], normalize=True)[0].numpy() for path in paths]
    found = embedder.embed([Item(texts[0]), Item(image=paths[0]), Item(texts[1], image=paths[1])], "query")
    expected = np.stack([written[0], drawn[0], (both := written[1] + drawn[1]) / np.linalg.norm(both)])
    np.testing.assert_allclose(found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True), expected, atol=1e-5)
    assert list(found.tokens) == [8, 0, 7]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3


@installed
def test_every_entry_of_the_catalog_is_a_model_and_a_tag_of_open_clip_with_these_dimensions() -> None:
    import open_clip
    import torch

    names = [name for name in catalog.entries() if name.startswith("open-clip/")]
    assert len(names) >= 7
    for name in names:
        architecture, _, tag = name.partition("/")[2].partition(":")
        assert tag in open_clip.list_pretrained_tags_by_model(architecture)
        config = open_clip.get_model_config(architecture)
        kind = (
            open_clip.CoCa
            if "multimodal_cfg" in config
            else open_clip.CustomTextCLIP
            if config.pop("custom_text", False)
            else open_clip.CLIP
        )
        with torch.device("meta"):
            net = kind(**{key: value for key, value in config.items() if key != "custom_text"})
        known, loaded = catalog.entries()[name], catalog.load(name).model
        assert (known.dim, known.max_tokens) == (loaded.dim, loaded.max_tokens)
        assert known.parameters == sum(weight.numel() for weight in net.parameters())


@installed
def test_a_wrong_tag_is_said() -> None:
    wrong: Any = catalog.load("open-clip/ViT-B-32:no_such_tag")
    with pytest.raises(ModelError, match=r"cannot be loaded: .*no_such_tag"):
        wrong.prepare()


class _Tower:
    """Answers as OpenCLIP's model does, with vectors that tell what they were made of."""

    def eval(self) -> _Tower:
        return self

    def encode_text(self, tokens: Any) -> Any:
        return tokens.float()[:, :12] + 1

    def encode_image(self, pixels: Any) -> Any:
        return pixels.flatten(1)[:, :12] * 3


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package open_clip with one model, whose towers are sums."""
    import torch

    configs = tmp_path / "open_clip" / "model_configs"
    configs.mkdir(parents=True)
    (configs / "ViT-Tiny.json").write_text(json.dumps(CONFIG))
    package = ModuleType("open_clip")

    def create(name: str, pretrained: str | None, device: str) -> tuple[_Tower, Any]:
        if pretrained != "made":
            raise RuntimeError(f"Pretrained weights ({pretrained}) not found for model {name}.")
        return _Tower(), lambda image: torch.tensor(np.asarray(image.resize((4, 4)), dtype=np.float32)) / 255

    def tokenizer(texts: list[str]) -> Any:
        return torch.tensor([[len(text), *map(ord, text[:11].ljust(11))] for text in texts])

    vars(package).update(create_model_from_pretrained=create, get_tokenizer=lambda name: tokenizer)
    spec = ModuleSpec("open_clip", None)
    spec.submodule_search_locations = [str(configs.parent)]
    monkeypatch.setitem(sys.modules, "open_clip", package)
    monkeypatch.setattr(provider, "find_spec", lambda name: spec)
    return configs.parent


def test_stand_in_each_tower_gets_its_own_kind(stand_in: Path, tmp_path: Path) -> None:
    embedder: Any = catalog.load("open_clip/ViT-Tiny:made?query_prompt=a%20photo%20of%20")
    assert (str(embedder.model), embedder.model.dim, embedder.model.max_tokens) == ("open-clip/ViT-Tiny:made", 12, 16)
    embedder.prepare()
    (path,) = draw(tmp_path / "pictures", 1)
    found = embedder.embed([Item("dog"), Item(image=path)], "query")
    assert found.vectors[0, 0] == len("a photo of dog") + 1
    pixels = np.asarray(images.read(path).resize((4, 4)), dtype=np.float32) / 255
    np.testing.assert_allclose(found.vectors[1], pixels.ravel()[:12] * 3)
    assert list(found.tokens) == [-1, 0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-Tin:made", "'ViT-Tin' is no model of open_clip's 1, nor a folder - did you mean 'ViT-Tiny'"),
        ("ViT-Tiny", "say what it was pretrained on, or a file with its weights: open-clip/ViT-Tiny:<tag or file>"),
    ],
)
def test_stand_in_a_wrong_name_is_an_error(stand_in: Path, name: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        catalog.load(f"open-clip/{name}")


def test_stand_in_a_file_with_weights_is_identified_by_its_content(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "one.pt").write_bytes(b"one")
    before = catalog.load(f"open-clip/ViT-Tiny:{tmp_path / 'one.pt'}").model
    (tmp_path / "one.pt").write_bytes(b"other")
    assert catalog.load(f"open-clip/ViT-Tiny:{tmp_path / 'one.pt'}").model.digest() != before.digest()
    assert (before.dim, before.max_tokens) == (12, 16)


def test_stand_in_weights_that_are_not_there_are_said(stand_in: Path) -> None:
    embedder: Any = catalog.load("open-clip/ViT-Tiny:other")
    with pytest.raises(ModelError, match=r"cannot be loaded: Pretrained weights \(other\) not found"):
        embedder.prepare()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"open_clip_torch is not installed: pip install 'bakeoff\[open-clip\]'"):
        provider.load("ViT-B-32:openai", Settings())
    monkeypatch.setattr(provider, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=None))
    with pytest.raises(ModelError, match="not installed"):
        provider.load("ViT-B-32:openai", Settings())
