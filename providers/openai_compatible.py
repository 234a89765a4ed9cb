"""``openai-compatible/<model>?base_url=...``: any server with OpenAI's protocol (TEI, infinity, vLLM, Ollama, LM Studio, llama.cpp).

A key, if the server wants one, is read from OPENAI_COMPATIBLE_API_KEY. Prompts are put in front here, since the protocol has no roles.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.embedder import Item, Role, Settings
from harness.keys import find
from harness.remote import API_SETTINGS, Answer, address, closing, describe, is_here, limits
from providers.openai import OpenAIEndpoint

SETTINGS = (*API_SETTINGS, "query_prompt", "document_prompt", "tokenizer")
PACKAGE = "openai"
KEY = "OPENAI_COMPATIBLE_API_KEY"


def load(name: str, settings: Settings) -> CompatibleEndpoint:
    """``name`` is the server's own name of the model."""
    url = address(settings)
    prompts = {"query_prompt": settings.query_prompt or "", "document_prompt": settings.document_prompt or ""}
    model = describe("openai-compatible", name, settings, local=is_here(url), **prompts)
    bounds = limits(settings, items=64, in_flight=8, item_tokens=settings.max_tokens)
    return CompatibleEndpoint(model, bounds, url, (), ask_dimensions=settings.dimensions is not None, encoding="float")


class CompatibleEndpoint(OpenAIEndpoint):
    """Needs no key."""

    def connect(self) -> None:
        """Make the client."""
        self._client = closing(self, self._make(find(KEY) or "none"))

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """POST /embeddings, each text behind its prompt."""
        prompt = self.model.prompt(role)
        return super().ask([Item(prompt + item.full, image=item.image) for item in items] if prompt else items, role)
