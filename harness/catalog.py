"""From the words a user writes, ``provider/model?option=value``, to an embedder or a system."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.resources import files
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from harness.dispatch import Remote
from harness.embedder import Embedder, Settings
from harness.errors import HarnessError, ModelError, OptionError, nearest
from harness.experiment import Dim, System
from harness.keys import redact
from harness.pair import Pair
from harness.remote import Endpoint

FLOORS = ("bm25", "random")
"""Systems that stand in every leaderboard: a model that does not beat them is not worth its cost."""
DEFAULT_MODELS = (*FLOORS, "wordllama/256", "packaged/all-MiniLM-L6-v2")
_PRICE = ("usd_per_million_tokens", "usd_source", "usd_date")
_KNOWN = tuple(f.name for f in fields(Settings))
_USER_OPTIONS = tuple(name for name in _KNOWN if name not in ("modality", "tasks", "space", "usd_source", "usd_date"))
_FACTS = ("mrl_dims", "licence", "usd_per_million_tokens")
"""Options that describe a model and change no vector: every provider takes them."""
_PLUS = re.compile(r"\+(?=[a-z][a-z-]*/)")
_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?")  # with nothing in it that could be a key
_PASSWORD = re.compile(r"//[^/?&]*@")


def providers() -> list[str]:
    """The providers there are, as users write them: one per module of the package ``providers``."""
    import providers as package

    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__))


def describe(provider: str) -> str:
    """The first line of a provider's documentation: what it answers to, and what it is."""
    return (_module(provider).__doc__ or "").strip().partition("\n")[0].replace("``", "")


def keys(provider: str) -> tuple[str, ...]:
    """The environment variables that may hold a provider's key, of which one is enough; none for what runs on this machine."""
    return tuple(getattr(_module(provider), "KEYS", ())) if provider in providers() else ()


def package(provider: str) -> str:
    """The package a provider's requests go through, by the name it is imported by; an empty string where it needs none."""
    return str(getattr(_module(provider), "PACKAGE", "")) if provider in providers() else ""


def _module(provider: str) -> ModuleType:
    return importlib.import_module(f"providers.{provider.replace('-', '_')}")


@cache
def entries() -> dict[str, Settings]:
    """The catalog, ``providers/catalog.toml``: model name -> what is known of it. Raises OptionError if it is wrong."""
    tables = tomllib.loads(files("providers").joinpath("catalog.toml").read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def _entry(name: str, table: dict[str, Any]) -> Settings:
    where = f"catalog.toml, {name!r}"
    known = _settings(table, where)
    _check_price(table, where)
    if known.dim is None and (known.usd_source or keys(name.partition("/")[0])):
        raise OptionError(f"{where}: dim is missing: of a model behind an API nothing else says it")
    if list(known.mrl_dims) != sorted(set(known.mrl_dims), reverse=True):
        raise OptionError(f"{where}: mrl_dims {list(known.mrl_dims)} should be falling, each once")
    if known.dim is not None and known.mrl_dims[:1] >= (known.dim,):
        raise OptionError(f"{where}: mrl_dims {list(known.mrl_dims)} should be below dim {known.dim}")
    return known


def _check_price(table: dict[str, Any], where: str) -> None:
    missing = [key for key in _PRICE if table.get(key) in (None, "")]
    if 0 < len(missing) < len(_PRICE):
        raise OptionError(f"{where}: {' and '.join(missing)} missing: a price is {', '.join(_PRICE)} together")


def settings(spec: str) -> tuple[str, Settings]:
    """Split a spec into the model's name and its settings: the catalog's, overruled by the user's own."""
    name, given = _split(spec)
    user = _settings(given, f"model {public(spec)!r}", _USER_OPTIONS)
    return name, replace(entries().get(name, Settings()), **{key: getattr(user, key) for key in given})


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    name, _, query = spec.partition("?")
    given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if "mrl_dims" in given:
        given["mrl_dims"] = [part for part in given["mrl_dims"].split(",") if part]
    return name, given


def public(spec: str) -> str:
    """A spec as it may be shown: the values of options that do not exist, and what is odd in addresses, could be keys."""
    return "+".join(_public(part) for part in _PLUS.split(spec))


def _public(spec: str) -> str:
    name, _, query = spec.partition("?")
    options = [part.partition("=") for part in query.split("&")]
    shown = "&".join(f"{option}={value if _shows(option, value) else '...'}" for option, _, value in options if option)
    return _PASSWORD.sub("//...@", f"{name}?{shown}" if shown else name)


def _shows(option: str, value: str) -> bool:
    return option in _USER_OPTIONS and (option != "base_url" or _ADDRESS.fullmatch(value) is not None)


def load(spec: str) -> Embedder | System:
    """Make the embedder or system a spec names, without loading its weights yet. ``A+B`` embeds documents with A, queries with B.

    Raises OptionError where the spec itself is wrong (unknown provider, option or name), ModelError where what it names
    cannot be had (missing package, missing weights), both with the fix.
    """
    parts = _PLUS.split(spec)
    if len(parts) == 1:
        return _load(spec)
    if len(parts) > 2:
        raise OptionError(f"model {public(spec)!r} pairs {len(parts)} models; two is what there are roles for, documents+queries")
    spaces = [settings(part)[1].space for part in parts]
    if not spaces[0] or spaces[0] != spaces[1]:
        known = sorted(name for name, entry in entries().items() if entry.space)
        fix = f"the catalog knows this of {', '.join(known)}"
        raise OptionError(
            f"model {public(spec)!r}: nothing says that {public(parts[0])} and {public(parts[1])} share a space of vectors; {fix}"
        )
    documents, queries = _load(parts[0]), _load(parts[1])
    if isinstance(documents, System) or isinstance(queries, System):
        raise OptionError(f"model {public(spec)!r}: only what makes vectors can be paired")
    return Pair(documents, queries)


def _load(spec: str) -> Embedder | System:
    name, chosen = settings(spec)
    provider, _, rest = name.partition("/")
    if provider not in providers():
        known = ", ".join(providers())
        near = nearest(provider, providers())
        hub = f"; for a hub id write 'st/{name}'" if name.count("/") == 1 and not near else ""
        raise OptionError(f"model {public(spec)!r}: no provider {provider!r}; there are {known}{near}{hub}")
    try:
        module = _module(provider)
        _check_taken(_split(spec)[1], (*getattr(module, "SETTINGS", ()), *_FACTS))
        made: Embedder | System | Endpoint = module.load(rest, chosen)
    except ImportError as error:
        raise ModelError(f"{spec}: {needs_package(error)}") from error
    except HarnessError as error:
        raise type(error)(f"{public(spec)}: {redact(str(error))}") from error
    return Remote(made) if isinstance(made, Endpoint) else made


def by_server(specs: Sequence[str], dims: Sequence[Dim] = ()) -> list[str]:
    """The same models, and each of an API once more for every smaller dimension: what ``--server-dims`` asks for."""
    found: list[str] = []
    for spec in specs:
        found.append(spec)
        embedder = load(spec)
        if isinstance(embedder, Remote) and "?dimensions=" not in spec.replace("&", "?"):
            smaller = [dim for dim in dims if dim != "native"] or embedder.model.mrl_dims
            found += [f"{spec}{'&' if '?' in spec else '?'}dimensions={dim}" for dim in smaller if dim < embedder.model.dim]
    return found


def needs_package(error: ImportError) -> str:
    """What to install where an import failed."""
    package = (error.name or "unknown").partition(".")[0]
    return f"needs the package {package!r}, which cannot be imported ({error}): pip install {package}"


def _check_taken(given: Iterable[str], taken: Sequence[str]) -> None:
    for key in given:
        if key not in taken:
            raise OptionError(f"option {key!r} has no effect on this provider; it takes {', '.join(sorted(taken))}")


def _settings(table: dict[str, Any], where: str, known: Sequence[str] = _KNOWN) -> Settings:
    for key in table:
        if key not in known:
            raise OptionError(f"{where}: unknown option {key!r}; known: {', '.join(known)}{nearest(key, known)}")
    try:
        return msgspec.convert(table, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise OptionError(f"{where}: {error}") from None
