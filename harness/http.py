"""A small HTTP client for the APIs that no SDK of ours speaks: one POST, JSON both ways, no redirects, no retries."""

from __future__ import annotations

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
            raise failure(RuntimeError(), response.status_code, _message(response), headers)
        try:
            reply = msgspec.json.decode(response.content)
        except msgspec.DecodeError as error:
            raise failure(error, response.status_code, f"not JSON: {error}") from error
        if not isinstance(reply, dict):
            raise Failure("lost", f"the reply is no JSON object but {type(reply).__name__}")
        return reply, headers


def _message(response: Any) -> str:
    """What a server says of an error, wherever it puts it: error.message, detail, message, or the body itself."""
    try:
        body = response.json()
    except ValueError:
        return str(response.text or response.reason_phrase)
    said = body.get("error") or body.get("detail") or body.get("message") if isinstance(body, dict) else body
    return str(said.get("message") or said) if isinstance(said, dict) else str(said or body)
