"""What an adapter of an API implements: one request, one attempt. Batches, order, retries, rates and money are harness/dispatch.py's.

An adapter turns items into one call of its SDK and the reply into an :class:`Answer`; whatever its SDK raises, ``explain`` turns into
a :class:`Failure`, mostly by :func:`failure`, which knows what status codes and broken connections mean.
"""

from __future__ import annotations

import base64
import email.utils
import mimetypes
import re
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

import numpy as np

from harness.embedder import Item, Model, Role, Settings
from harness.errors import ModelError, OptionError
from harness.keys import find, redact

Kind = Literal["busy", "lost", "unreachable", "wrong", "refused", "fatal"]
"""Why an attempt gave nothing, and so what is done about it.

busy          the server will not answer now (408, 409, 429, 5xx): try again later, nothing was paid
lost          the reply got lost or garbled on the way: try again, it may have been paid for
unreachable   no connection could be made: try again, nothing was paid
wrong         a whole answer that cannot be used (count, dimension, NaN, zeros): try again a few times, it was paid for
refused       something in the request is not to the server's taste (400, 413, 422): split it, down to the one item that is
fatal         no later attempt can succeed (key, quota, unknown model, redirect)
"""
_BUSY = frozenset((408, 409, 425, 429))
_REFUSED = frozenset((400, 413, 422))
_MEANING = {
    401: "the key was not accepted: is it whole, and this provider's?",
    402: "the account has no credit: when it has, the same command goes on",
    403: "the key may not use this model: allow it there, or take another",
    404: "there is no such model or address: is it spelled right?",
}
_NO_CREDIT = ("insufficient_quota", "billing_not_active", "billing hard limit")
_WAIT = re.compile(r"(?:retry|try again) in ([0-9.]+) ?(ms|s)\b")  # how Google and OpenAI say Retry-After in words
_SHOWN = 300  # characters of a server's message


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may hold, and how many may leave. None: no limit is known.

    ``items`` and ``tokens`` bound one request, those ``_per_minute`` all of them; ``in_flight`` is how many may wait for their
    answers at once, ``timeout`` the seconds until an answer counts as lost. ``item_tokens`` bounds one text where the API refuses
    a longer one instead of cutting it: then it is cut here. ``images`` says whether they are read.
    """

    items: int = 96
    tokens: int | None = None
    item_tokens: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    items_per_minute: float | None = None
    in_flight: int = 32
    timeout: float = 120.0
    images: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole reply: ``vectors``, one a row; ``places``, which item of the request each row belongs to (None: in their order).

    ``tokens`` is what the reply says was used, None where it says nothing. ``headers`` have lower-case names.
    """

    vectors: Sequence[Any]
    places: Sequence[int] | None = None
    tokens: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Failure(Exception):  # noqa: N818 - what happened to one attempt, not an error that a user sees
    """Why one attempt gave no answer; ``retry_after`` in seconds where the server named a time."""

    def __init__(self, kind: Kind, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.retry_after, self.status = kind, message, retry_after, status


@runtime_checkable
class Endpoint(Protocol):
    """A model behind an API. ``ask`` and ``explain`` are called from many threads at once."""

    model: Model
    limits: Limits

    def connect(self) -> None:
        """Import the SDK, find the key, make the client; raises ModelError for what is missing."""

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        """Make one request, once; raises whatever the SDK raises, or a Failure."""

    def explain(self, error: Exception) -> Failure:
        """What an exception of ``ask`` means."""


API_SETTINGS = (
    *("dim", "dimensions", "base_url", "max_tokens", "timeout", "in_flight", "request_items", "request_tokens"),
    *("requests_per_minute", "tokens_per_minute", "items_per_minute"),
)
"""The options that every model behind an API takes."""


def describe(provider: str, name: str, settings: Settings, **more: Any) -> Model:
    """The Model of a name behind an API; ``more`` are fields of Model that the adapter sets.

    Raises OptionError where the dimension is not known, or smaller ones are asked for that are not smaller.
    """
    if settings.dim is None:
        raise OptionError(
            f"the catalog does not know {provider}/{name}: say the dimension of its vectors, as in {provider}/{name}?dim=1024"
        )
    if settings.dimensions and settings.dimensions > settings.dim:
        raise OptionError(f"dimensions {settings.dimensions} is more than the {settings.dim} that the model has")
    dim = settings.dimensions or settings.dim
    asked = (("dimensions", str(dim)),) if settings.dimensions else ()
    elsewhere = (("base_url", settings.base_url),) if settings.base_url else ()
    facts = settings.facts() | {
        "mrl_dims": tuple(smaller for smaller in settings.mrl_dims if smaller < dim),
        "usd_per_million_tokens": settings.usd_per_million_tokens,
    }
    options = (*asked, *elsewhere, *more.pop("options", ()))
    fields = {"revision": "", "max_tokens": settings.max_tokens, "local": False} | facts | more
    return Model(provider=provider, name=name, dim=dim, options=options, **fields)


def limits(settings: Settings, **more: Any) -> Limits:
    """The limits that the user or the catalog say, else ``more``, the adapter's own."""
    said = {
        "items": settings.request_items,
        "tokens": settings.request_tokens,
        "requests_per_minute": settings.requests_per_minute,
        "tokens_per_minute": settings.tokens_per_minute,
        "items_per_minute": settings.items_per_minute,
        "in_flight": settings.in_flight,
        "timeout": settings.timeout,
    }
    more = {"images": "image" in settings.modality} | more
    return Limits(**(more | {name: value for name, value in said.items() if value is not None}))


def sized(settings: Settings) -> bool:
    """Whether a request says the dimension: of a model that has several, or where the user wants one."""
    return bool(settings.mrl_dims or settings.dimensions)


def address(settings: Settings, default: str = "") -> str:
    """The base URL, without a slash at its end; raises OptionError for one that cannot be used."""
    url = (settings.base_url or default).rstrip("/")
    fix = "base_url is not an address, as in ?base_url=http://localhost:8080/v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OptionError(fix) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise OptionError(fix)
    if "@" in url or parts.query or parts.fragment:
        raise OptionError("base_url holds a password, a query or a fragment; keys belong into the environment or into .env")
    return url


def is_here(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, and be it 127.evil.example
        return False


def failure(error: Exception, status: int | None = None, message: str = "", headers: Mapping[str, str] | None = None) -> Failure:
    """Sort a failed attempt by HTTP status, or, where no reply came, by what broke the connection."""
    text = _shown(message or str(error) or type(error).__name__)
    if status is None:
        return _broken(error, text)
    names = {name.lower(): value for name, value in (headers or {}).items()}
    said, kind = f"{status}: {text}", _kind(status, text)
    if kind == "lost":
        said = f"the reply cannot be read: {text}"
    elif 300 <= status < 400:
        said = f"{status}: sends us on to {names.get('location', 'nowhere')}, which is refused: keys and texts go to the named host only"
    elif kind == "fatal" and (meaning := _MEANING.get(402 if _no_credit(text) else 401 if _bad_key(text) else status)):
        said = f"{said} ({meaning})"
    wait = retry_after(names)
    if wait is None and kind == "busy" and (words := _WAIT.search(message)):
        wait = float(words[1]) / (1000 if words[2] == "ms" else 1)
    return Failure(kind, said, retry_after=wait, status=status)


def _shown(text: str) -> str:
    """The beginning of what a server says, on one line. Keys go before it is cut: of half a key nobody knows that it is one."""
    return " ".join(redact(text).split())[:_SHOWN]


def _kind(status: int, text: str) -> Kind:
    if status in _BUSY and not _no_credit(text):
        return "busy"
    if status in _REFUSED:
        return "fatal" if _bad_key(text) else "refused"
    if 200 <= status < 300:  # a reply, but not one that can be read
        return "lost"
    return "busy" if status >= 500 else "fatal"


def _bad_key(text: str) -> bool:
    """Google answers 400 to a key that it does not know."""
    return "api key not valid" in text.lower() or "API_KEY_INVALID" in text


def _no_credit(text: str) -> bool:
    return any(sign in text for sign in _NO_CREDIT)


def _broken(error: Exception, text: str) -> Failure:
    kinds = {type(link).__name__ for link in _chain(error)}
    root: BaseException = error
    passed = {id(error)}
    while (inner := root.__cause__ or root.__context__) and id(inner) not in passed:  # SDKs say no more than that there was an error
        root = inner
        passed.add(id(root))
    text = _shown(str(root)) or text
    if "ConnectTimeout" in kinds or kinds & {"ConnectError", "ConnectionRefusedError", "NewConnectionError", "gaierror"}:
        return Failure("unreachable", f"no connection: {text}")
    return Failure("lost", f"the reply was lost: {type(root).__name__}: {text}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that it was made of."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and all(one is not other for other in seen):
            seen.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "reason", None), *(a for a in one.args if isinstance(a, BaseException))]
    yield from seen


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a reply asks to wait, from ``retry-after-ms`` or ``retry-after`` (seconds or an HTTP date, RFC 9110 10.2.3)."""
    if (milliseconds := number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None or (seconds := number(value)) is not None:
        return None if value is None else seconds
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def number(text: str | None) -> float | None:
    """A number from 0 up, or None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def closing(owner: Any, client: Any) -> Any:
    """The client, whose connections are closed when its owner is no longer used."""
    weakref.finalize(owner, client.close).atexit = False  # a reply may still be on its way there, and is not waited for
    return client


def plain_text(items: Sequence[Item]) -> list[str]:
    """The full texts of items; raises ModelError for an image, which most APIs cannot read."""
    for item in items:
        if item.image is not None:
            raise ModelError(f"reads text only, but {item.image} is an image")
    return [item.full for item in items]


def data_url(path: Path) -> str:
    """An image as a data URL (RFC 2397); raises ModelError if it cannot be read or is of no known type."""
    kind = mimetypes.guess_type(path.name)[0]
    if kind is None or not kind.startswith("image/"):
        raise ModelError(f"{path}: not an image by its name; .jpg, .png, .webp and .gif are")
    try:
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError as error:
        raise ModelError(f"{path}: the image cannot be read ({error.strerror})") from error


def key(*names: str) -> str:
    """The key found under one of these names; raises ModelError that says where to put it."""
    if value := find(*names):
        return value
    raise ModelError(f"no key: set {' or '.join(names)} in the environment, or in a file .env in this folder")


def decoded(text: str | Sequence[float]) -> Any:
    """A vector as it comes in a reply: numbers, or the bytes of float32 numbers in base64."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4") if isinstance(text, str) else text
