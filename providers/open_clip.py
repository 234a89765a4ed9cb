"""``open-clip/<model>:<pretrained tag or file>``: OpenCLIP, as ``open-clip/ViT-B-32:laion2b_s34b_b79k``; reads texts and images.

``open-clip/<folder>`` takes a folder with open_clip_config.json. Needs the extra open-clip, which brings torchvision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import images
from harness.embedder import Embedded, Item, Model, Role, Settings
from harness.errors import ModelError, OptionError, nearest

SETTINGS = ("query_prompt", "document_prompt", "device")
PACKAGE = "open_clip"
_FIX = "pip install 'bakeoff[open-clip]'; it brings torchvision, which must fit the torch that is installed"
_CONFIG = "open_clip_config.json"


def load(name: str, settings: Settings) -> OpenClipEmbedder:
    """``name`` is a model and what it was pretrained on (or a file with its weights), or a folder."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ModelError(f"the package open_clip_torch is not installed: {_FIX}")
    return OpenClipEmbedder(Path(package.submodule_search_locations[0]), name, settings)


class OpenClipEmbedder:
    """Two towers, one for texts and one for images. What identifies the model is read from small files, without torch."""

    batch = 32

    def __init__(self, package: Path, name: str, settings: Settings) -> None:
        self._device = settings.device or "cpu"
        if (Path(name) / _CONFIG).is_file():
            self._architecture, self._weights = f"local-dir:{name}", None
            config = json.loads((Path(name) / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]
            revision = _hash(*sorted(path for path in Path(name).rglob("*") if path.is_file() and path.suffix != ".md"))
        else:
            architecture, _, weights = name.partition(":")
            known = sorted(path.stem for path in (package / "model_configs").glob("*.json"))
            if architecture not in known:
                raise OptionError(f"{architecture!r} is no model of open_clip's {len(known)}, nor a folder{nearest(architecture, known)}")
            if not weights:
                raise OptionError(f"say what it was pretrained on, or a file with its weights: open-clip/{architecture}:<tag or file>")
            self._architecture, self._weights = architecture, weights
            config = json.loads((package / "model_configs" / f"{architecture}.json").read_text(encoding="utf-8"))
            revision = _hash(Path(weights)) if Path(weights).is_file() else weights
        self._model: Any = None
        self._see: Any = None
        self._tokens: Any = None
        self.model = Model(
            provider="open-clip",
            name=name,
            revision=revision,
            dim=int(config["embed_dim"]),
            query_prompt=settings.query_prompt or "",
            document_prompt=settings.document_prompt or "",
            max_tokens=config.get("text_cfg", {}).get("context_length", 77),
            options=(images.READ_AS, images.BOTH),
            **settings.facts(),
        )

    def prepare(self) -> None:
        """Load the weights, which are downloaded where a tag names them; raises ModelError."""
        try:
            import open_clip
        except (ImportError, RuntimeError) as error:  # torch and torchvision that don't fit each other
            raise ModelError(f"open_clip cannot be imported ({error}): {_FIX}") from error
        try:
            model, see = open_clip.create_model_from_pretrained(self._architecture, pretrained=self._weights, device=self._device)
            self._tokens = open_clip.get_tokenizer(self._architecture)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"cannot be loaded: {(str(error).splitlines() or [''])[0]}") from error
        self._model, self._see = model.eval(), see

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed texts with the prompt of their role, and images."""
        prompt = self.model.prompt(role)
        matrix = images.towers(items, self.model.dim, self._of_texts, self._of_images, prompt)
        tokens = np.array([self._length(prompt + item.full) if item.full else 0 for item in items], dtype=np.int64)
        return Embedded(matrix, tokens)

    def _of_texts(self, some: list[str]) -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            parts = [some[at : at + self.batch] for at in range(0, len(some), self.batch)]
            found = [self._model.encode_text(self._tokens(part).to(self._device)).float().cpu().numpy() for part in parts]
        return np.concatenate(found)

    def _of_images(self, some: list[Any]) -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            seen = torch.stack([self._see(image) for image in some]).to(self._device)
            return np.asarray(self._model.encode_image(seen).float().cpu().numpy())

    def _length(self, text: str) -> int:
        """Tokens of a text with its start and end, -1 where the tokenizer does not say."""
        return len(self._tokens.encode(text)) + 2 if hasattr(self._tokens, "encode") else -1


def _hash(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(f"{file.name}\0{hashlib.file_digest(opened, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
