"""``openai/<model>``: OpenAI's embeddings, as ``openai/text-embedding-3-small``; key in OPENAI_API_KEY.

:class:`OpenAIEndpoint` also serves the other providers whose servers speak this protocol.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from harness.embedder import Item, Model, Role, Settings
from harness.http import message
from harness.remote import (
    API_SETTINGS,
    Answer,
    Failure,
    Limits,
    address,
    closing,
    decoded,
    describe,
    failure,
    key,
    limits,
    plain_text,
    sized,
)

SETTINGS = API_SETTINGS
KEYS = ("OPENAI_API_KEY",)
PACKAGE = "openai"
BASE_URL = "https://api.openai.com/v1"


def load(name: str, settings: Settings) -> OpenAIEndpoint:
    """``name`` is OpenAI's own name of the model."""
    model = describe("openai", name, settings)
    bounds = limits(settings, items=2048, tokens=300_000, item_tokens=model.max_tokens)
    return OpenAIEndpoint(model, bounds, address(settings, BASE_URL), KEYS, ask_dimensions=sized(settings))


def no_more(role: Role) -> dict[str, Any]:  # noqa: ARG001 - others tell documents and queries apart
    """Nothing beside OpenAI's own fields."""
    return {}


class _Row(msgspec.Struct):
    embedding: str | list[Any]  # null stands for NaN in some servers: the checks that follow refuse it
    index: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Reply(msgspec.Struct):
    """What a reply must have to be read."""

    data: list[_Row]
    usage: _Usage | None = None


def not_for_others() -> dict[str, Any]:
    """Headers that the SDK finds in the environment and that are for OpenAI alone, left out."""
    import openai

    given = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    names = [line.partition(":")[0].strip() for line in given if ":" in line]
    return dict.fromkeys(("OpenAI-Organization", "OpenAI-Project", *names), openai.Omit())


class OpenAIEndpoint:
    """A server that speaks OpenAI's embeddings protocol. ``extra`` gives the fields that only it has, by role."""

    def __init__(
        self,
        model: Model,
        bounds: Limits,
        base_url: str,
        keys: tuple[str, ...],
        *,
        ask_dimensions: bool = False,
        encoding: str = "base64",
        extra: Callable[[Role], dict[str, Any]] = no_more,
        inputs: Callable[[Sequence[Item]], list[Any]] = plain_text,
    ) -> None:
        self.model, self.limits = model, bounds
        self._base_url, self._keys, self._encoding, self._extra, self._inputs = base_url, keys, encoding, extra, inputs
        self._dimensions = {"dimensions": model.dim} if ask_dimensions else {}
        self._client: Any = None

    def connect(self) -> None:
        """Find the key and make the client."""
        self._client = closing(self, self._make(key(*self._keys)))

    def _make(self, api_key: str) -> Any:
        import openai

        headers = {} if self._base_url == BASE_URL else not_for_others() | {"Authorization": f"Bearer {api_key}"}
        return openai.OpenAI(api_key=api_key, base_url=self._base_url, default_headers=headers, **self._manners())

    def _manners(self) -> dict[str, Any]:
        """No retries and no redirects of the SDK's own."""
        import openai

        return {"max_retries": 0, "timeout": self.limits.timeout, "http_client": openai.DefaultHttpxClient(follow_redirects=False)}

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """POST /embeddings."""
        reply = self._client.embeddings.with_raw_response.create(
            input=self._inputs(items),
            model=self.model.name,
            encoding_format=self._encoding,
            extra_body=self._extra(role),
            **self._dimensions,
        )
        body = msgspec.json.decode(reply.content, type=_Reply)  # the SDK's own parsing looks at every number: 50 times slower
        places = [row.index for row in body.data if row.index is not None] or None
        headers = {name.lower(): value for name, value in reply.headers.items()}
        used = body.usage.total_tokens or body.usage.prompt_tokens if body.usage else None
        return Answer([decoded(row.embedding) for row in body.data], places, used, headers)

    def explain(self, error: Exception) -> Failure:
        """By status code, where there is one."""
        import openai

        if isinstance(error, openai.APIStatusError):
            code = error.body.get("code") if isinstance(error.body, dict) else None
            said = f"{code or ''} {message(error.response.text, error.message)}".strip()
            return failure(error, error.status_code, said, error.response.headers)
        if isinstance(error, msgspec.DecodeError):
            return failure(error, 200, str(error))
        return failure(error)
