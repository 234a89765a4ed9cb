"""``mistral/<model>``: Mistral's embeddings, as ``mistral/mistral-embed``; key in MISTRAL_API_KEY."""

from __future__ import annotations

from typing import Any

from harness.embedder import Role, Settings
from harness.remote import API_SETTINGS, address, describe, limits, sized
from providers.openai import OpenAIEndpoint

SETTINGS = API_SETTINGS
KEYS = ("MISTRAL_API_KEY",)
PACKAGE = "openai"
BASE_URL = "https://api.mistral.ai/v1"


def load(name: str, settings: Settings) -> OpenAIEndpoint:
    """``name`` is Mistral's own name of the model. Longer texts than it reads are refused there, and so cut here."""
    model = describe("mistral", name, settings)
    bounds = limits(settings, items=256, tokens=16_384, item_tokens=model.max_tokens)
    size = {"output_dimension": model.dim} if sized(settings) else {}

    def extra(role: Role) -> dict[str, Any]:  # noqa: ARG001 - no roles here
        return size

    return OpenAIEndpoint(model, bounds, address(settings, BASE_URL), KEYS, extra=extra)
