"""``azure/<deployment>``: OpenAI's embeddings on Azure; AZURE_OPENAI_API_KEY, and AZURE_OPENAI_ENDPOINT or ?base_url=."""

from __future__ import annotations

from typing import Any

from harness.embedder import Settings
from harness.errors import ModelError
from harness.keys import find
from harness.remote import API_SETTINGS, address, describe, limits, sized
from providers.openai import OpenAIEndpoint, not_for_others

SETTINGS = API_SETTINGS
KEYS = ("AZURE_OPENAI_API_KEY",)
PACKAGE = "openai"
VERSION = "2024-10-21"
"""The API version where OPENAI_API_VERSION names none: the last that is generally available and has embeddings."""


def load(name: str, settings: Settings) -> AzureEndpoint:
    """``name`` is the deployment's; one that is named like its model is in the catalog, of others say ``?dim=``."""
    url = settings.base_url or find("AZURE_OPENAI_ENDPOINT", secret=False)
    if not url:
        raise ModelError("no address: set AZURE_OPENAI_ENDPOINT, or write ?base_url=https://<resource>.openai.azure.com")
    model = describe("azure", name, settings, options=() if settings.base_url else (("base_url", url),))
    bounds = limits(settings, items=2048, tokens=300_000, item_tokens=model.max_tokens)
    return AzureEndpoint(model, bounds, address(settings, url), KEYS, ask_dimensions=sized(settings))


class AzureEndpoint(OpenAIEndpoint):
    """The same protocol, under other addresses."""

    def _make(self, api_key: str) -> Any:
        import openai

        version = find("OPENAI_API_VERSION", secret=False) or VERSION
        return openai.AzureOpenAI(
            api_key=api_key, azure_endpoint=self._base_url, api_version=version, default_headers=not_for_others(), **self._manners()
        )
