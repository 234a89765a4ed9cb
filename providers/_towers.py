"""Models of transformers with a tower for texts and one for images that sentence-transformers does not read: part of ``hf/``.

BLIP-2's image-text retrieval has both in one checkpoint. Other image models were trained to land in the space of a text model that
stands elsewhere, which ``text_tower`` names (nomic-embed-vision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import images
from harness.embedder import Embedded, Item, Model, Role, Settings
from harness.errors import ModelError, OptionError
from providers import _hub, st
from providers._hub import Source, json_file

POOLINGS = ("cls", "mean")
BLIP2 = "blip-2"
_UNUSED = ("layer", "bidirectional", "dim", "instruction", "document_instruction")
_POSITIONS = 512  # of a Q-Former whose files don't say (transformers, Blip2QFormerConfig)
_NORMED = "NomicVisionModel"
"""Its makers put texts through a layer norm before they are held against images. Source: mteb 2.26.24, nomic_models_vision.py."""


def load(source: Source, settings: Settings) -> Blip2Embedder | AlignedEmbedder:
    """Raises OptionError for options that mean nothing to these models."""
    if settings.pooling not in (None, *POOLINGS):
        raise OptionError(f"pooling {settings.pooling!r} is not one of those for vectors of an image: {', '.join(POOLINGS)}")
    if given := [name for name in _UNUSED if getattr(settings, name)]:
        raise OptionError(f"{given[0]} has no effect on a model with a tower for texts and one for images")
    if not settings.text_tower:
        return Blip2Embedder(source, settings)
    if json_file(source.folder / "config.json").get("model_type") == BLIP2:
        raise OptionError("text_tower has no effect: BLIP-2 has its own")
    return AlignedEmbedder(source, settings)


class Blip2Embedder:
    """BLIP-2 with the projections of its contrastive training (``Blip2ForImageTextRetrieval``); weights are loaded by ``prepare``.

    A text is its first token. An image has as many vectors as there are queries, of which the model's own score takes the nearest; one
    vector cannot say that, so it is their mean (pooling ``mean``) or the first of them (``cls``).
    """

    batch = 32

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source, self._device = source, settings.device
        self._net: Any = None
        self._tokenizer: Any = None
        self._processor: Any = None
        config = json_file(source.folder / "config.json")
        reader = {"max_position_embeddings": _POSITIONS} | config.get("qformer_config", {})
        _hub.check_max_tokens(settings, _hub.positions(reader))
        self._pooling = settings.pooling or "mean"
        self.model = Model(
            provider="hf",
            name=source.name,
            revision=source.revision(),
            dim=int(config.get("image_text_hidden_size", 256)),
            **settings.prompts(),
            pooling=f"cls of texts, {self._pooling} of an image's queries",
            max_tokens=settings.max_tokens or _hub.token_limit(source.folder, reader),
            options=(("compute", "float32"), *_hub.code_options(settings), images.READ_AS, images.BOTH),
            **settings.facts() | {"tokenizer": _tokenizer_file(source.folder)},
        )

    def prepare(self) -> None:
        """Load the weights; raises ModelError where some are missing."""
        import torch
        from transformers import AutoTokenizer, Blip2ForImageTextRetrieval

        with _hub.loading():
            net = Blip2ForImageTextRetrieval.from_pretrained(self._source.where, revision=self._source.commit, dtype=torch.float32)
            self._tokenizer = AutoTokenizer.from_pretrained(self._source.where, revision=self._source.commit)
            self._processor = _processor(self._source)
        self._net = net.to(_device(self._device)).eval()

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts with the prompt of their role, and images; an image has 0 tokens."""
        prompt = self.model.prompt(role)
        matrix = images.towers(items, self.model.dim, self._of_texts, self._of_images, prompt)
        return Embedded(matrix, _counted(self._tokenizer, items, prompt))

    def _of_texts(self, some: list[str]) -> NDArray[Any]:
        import torch

        found = []
        order = sorted(range(len(some)), key=lambda row: len(some[row]))
        for start in range(0, len(order), self.batch):
            part = [some[row] for row in order[start : start + self.batch]]
            how: dict[str, Any] = {"padding": True, "truncation": True, "max_length": self.model.max_tokens, "return_tensors": "pt"}
            given = self._tokenizer(part, **how).to(self._net.device)
            with torch.inference_mode():
                words = self._net.embeddings(input_ids=given["input_ids"])
                read = self._net.qformer(query_embeds=words, query_length=0, attention_mask=given["attention_mask"], return_dict=True)
                found.append(self._net.text_projection(read.last_hidden_state[:, 0]))  # (texts, dim)
        return np.asarray(torch.cat(found)[np.argsort(order)].cpu().numpy())

    def _of_images(self, some: list[Any]) -> NDArray[Any]:
        import torch

        net = self._net
        pixels = self._processor(images=some, return_tensors="pt")["pixel_values"].to(net.device)
        with torch.inference_mode():
            seen = net.vision_model(pixel_values=pixels).last_hidden_state
            queries = net.query_tokens.expand(len(some), -1, -1)
            read = net.qformer(query_embeds=queries, encoder_hidden_states=seen, return_dict=True).last_hidden_state
            each = torch.nn.functional.normalize(net.vision_projection(read), dim=-1)  # (images, queries, dim)
        return _pooled(each, self._pooling)


class AlignedEmbedder:
    """An image model of transformers beside the text model whose space it was trained to share; ``st/`` reads the latter."""

    batch = 32

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source, self._settings = source, settings
        self._net: Any = None
        self._processor: Any = None
        self._pooling = settings.pooling or "cls"
        self._normed = _NORMED in (json_file(source.folder / "config.json").get("architectures") or ())
        name, _, commit = (settings.text_tower or "").partition("@")
        of_texts = replace(settings, revision=commit or None, trust_remote_code=False, code_revision=None, task=None, text_tower=None)
        self._texts = st.load(name, of_texts)
        text = self._texts.model
        bare = replace(text, query_prompt="", document_prompt="")
        self.model = Model(
            provider="hf",
            name=source.name,
            revision=source.revision(),
            dim=text.dim,
            query_prompt=text.query_prompt,
            document_prompt=text.document_prompt,
            pooling=f"{text.pooling} of texts, {self._pooling} of images",
            max_tokens=text.max_tokens,
            options=(
                ("compute", "float32"),
                ("text tower", bare.digest()),
                *((("texts", "layer norm"),) if self._normed else ()),
                *_hub.code_options(settings),
                images.READ_AS,
                images.BOTH,
            ),
            **settings.facts() | {"tokenizer": text.tokenizer},
        )

    def prepare(self) -> None:
        """Load both towers; raises ModelError where their vectors are not of one length."""
        import torch
        from transformers import AutoModel

        chosen, source = self._settings, self._source
        self._texts.prepare()
        pinned = {"revision": source.commit, "trust_remote_code": chosen.trust_remote_code, "code_revision": chosen.code_revision}
        with _hub.loading(unused=("pooler.",)):
            net = AutoModel.from_pretrained(source.where, dtype=torch.float32, **pinned)
            self._processor = _processor(source)
        self._net = net.to(_device(chosen.device)).eval()
        from PIL import Image

        width = self._of_images([Image.new("RGB", (32, 32))]).shape[1]
        if width != self.model.dim:
            raise ModelError(f"its images have vectors of {width} dimensions, the texts of {self._texts.model} {self.model.dim}")

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts by the text model with the prompt of their role, and images; an image has 0 tokens."""
        counts = np.zeros(len(items), dtype=np.int64)
        written = [row for row, item in enumerate(items) if item.full]

        def of_texts(some: list[str]) -> NDArray[Any]:
            found = self._texts.embed([Item(text) for text in some], role)
            counts[written] = found.tokens
            return _layer_norm(found.vectors) if self._normed else found.vectors

        return Embedded(images.towers(items, self.model.dim, of_texts, self._of_images), counts)

    def _of_images(self, some: list[Any]) -> NDArray[Any]:
        import torch

        pixels = self._processor(images=some, return_tensors="pt")["pixel_values"].to(self._net.device)
        with torch.inference_mode():
            hidden = self._net(pixel_values=pixels).last_hidden_state  # (images, patches + 1, dim)
        return _pooled(hidden, self._pooling)


def _pooled(vectors: Any, pooling: str) -> NDArray[Any]:
    """One vector an image ``(n, dim)`` of several ``(n, vectors, dim)``."""
    return np.asarray((vectors[:, 0] if pooling == "cls" else vectors.mean(dim=1)).float().cpu().numpy())


def _layer_norm(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row less its mean, over its deviation, without learnt weights."""
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(1e-5)))


def _counted(tokenizer: Any, items: Sequence[Item], prompt: str) -> NDArray[np.int64]:
    counts = np.zeros(len(items), dtype=np.int64)
    written = [row for row, item in enumerate(items) if item.full]
    if written:
        counts[written] = st.count(tokenizer, [prompt + items[row].full for row in written])
    return counts


def _processor(source: Source) -> Any:
    """What makes pixels of an image, by Pillow: torchvision's way gives slightly other ones."""
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(source.where, revision=source.commit, backend="pil")


def _device(chosen: str | None) -> str:
    import torch

    return chosen or ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def _tokenizer_file(folder: Path) -> str:
    return f"file:{folder / 'tokenizer.json'}" if (folder / "tokenizer.json").is_file() else ""
