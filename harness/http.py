"""A small HTTP client for the APIs that no SDK of ours speaks: one POST, JSON both ways, no redirects, no retries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.remote import Failure, closing, failure


class Http:
    """POSTs to one address; may be used from many threads."""

    def __init__(self, base_url: str, headers: Mapping[str, str], timeout: float) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        self._client = closing(self, httpx.Client(headers=dict(headers), timeout=timeout, follow_redirects=False, limits=limits))
        self._base_url = base_url

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """The reply's JSON object and its headers, in lower case; raises Failure."""
        try:
            response = self._client.post(f"{self._base_url}/{path}", json=dict(body))
        except Exception as error:
            raise failure(error) from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        if not response.is_success:
            raise failure(RuntimeError(), response.status_code, message(response.text, response.reason_phrase), headers)
        try:
            reply = msgspec.json.decode(response.content)
        except msgspec.DecodeError as error:
            raise failure(error, response.status_code, f"not JSON: {error}") from error
        if not isinstance(reply, dict):
            raise Failure("lost", f"the reply is no JSON object but {type(reply).__name__}")
        return reply, headers


def message(text: str, otherwise: str) -> str:
    """What a server says of an error, wherever it puts it: error.message, detail, message, or the body itself."""
    try:
        body = json.loads(text)
    except ValueError:
        return text or otherwise
    said = body.get("error") or body.get("detail") or body.get("message") if isinstance(body, dict) else body
    return str(said.get("message") or said) if isinstance(said, dict) else str(said or body)
