"""``jina/<model>``: Jina's embeddings, as ``jina/jina-embeddings-v4``; key in JINA_API_KEY; ?task= and ?late_chunking=true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.embedder import Item, Role, Settings
from harness.errors import ModelError, OptionError, nearest
from harness.remote import API_SETTINGS, address, data_url, describe, limits, plain_text, sized
from providers.openai import OpenAIEndpoint

SETTINGS = (*API_SETTINGS, "task", "late_chunking")
KEYS = ("JINA_API_KEY",)
PACKAGE = "openai"
BASE_URL = "https://api.jina.ai/v1"
TASKS: dict[str, dict[Role, str]] = {
    "retrieval": {"query": "retrieval.query", "document": "retrieval.passage"},
    "code": {"query": "code.query", "document": "code.passage"},
    "text-matching": {"query": "text-matching", "document": "text-matching"},
}


def load(name: str, settings: Settings) -> OpenAIEndpoint:
    """``name`` is Jina's own name of the model; ``task`` is retrieval (the default), code or text-matching."""
    task = settings.task or "retrieval"
    if task not in TASKS:
        raise OptionError(f"task {task!r} is not one of {', '.join(TASKS)}{nearest(task, TASKS)}")
    late = settings.late_chunking
    model = describe("jina", name, settings, options=(("task", task), *((("late_chunking", "true"),) if late else ())))
    # with late chunking all inputs of one request are read as one text, and our documents are not one text
    bounds = limits(settings, items=512) if not late else limits(replace(settings, request_items=1))

    def extra(role: Role) -> dict[str, Any]:
        return {"task": TASKS[task][role], "truncate": True} | ({"late_chunking": True} if late else {})

    read = _texts_or_images if "image" in settings.modality else plain_text
    return OpenAIEndpoint(model, bounds, address(settings, BASE_URL), KEYS, ask_dimensions=sized(settings), extra=extra, inputs=read)


def _texts_or_images(items: Sequence[Item]) -> list[Any]:
    """Objects with a text or an image each; raises ModelError for both at once."""
    if both := [item for item in items if item.image is not None and item.full]:
        raise ModelError(f"reads a text or an image, not both at once, as with {both[0].image}")
    return [{"image": data_url(item.image).partition(",")[2]} if item.image else {"text": item.full} for item in items]
