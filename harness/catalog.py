"""From the words a user writes, ``provider/model?option=value``, to an embedder or a system."""

from __future__ import annotations

import importlib
import pkgutil
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from harness.embedder import Embedder, Settings
from harness.errors import HarnessError, ModelError, OptionError, nearest
from harness.experiment import System

FLOORS = ("bm25", "random")
"""Systems that stand in every leaderboard: a model that does not beat them is not worth its cost."""
DEFAULT_MODELS = (*FLOORS, "wordllama/256", "packaged/all-MiniLM-L6-v2")
_USER_OPTIONS = tuple(f.name for f in fields(Settings))


def providers() -> list[str]:
    """The providers there are, as users write them: one per module of the package ``providers``."""
    import providers as package

    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__))


def describe(provider: str) -> str:
    """The first line of a provider's documentation: what it answers to, and what it is."""
    module = importlib.import_module(f"providers.{provider.replace('-', '_')}")
    return (module.__doc__ or "").strip().partition("\n")[0].replace("``", "")


@cache
def entries() -> dict[str, Settings]:
    """The catalog, ``providers/catalog.toml``: model name -> what is known of it. Raises OptionError if it is wrong."""
    tables = tomllib.loads(files("providers").joinpath("catalog.toml").read_text(encoding="utf-8"))
    return {name: _settings(table, f"catalog.toml, {name!r}") for name, table in tables.items()}


def settings(spec: str) -> tuple[str, Settings]:
    """Split a spec into the model's name and its settings: the catalog's, overruled by the user's own."""
    name, given = _split(spec)
    user = _settings(given, f"model {spec!r}")
    return name, replace(entries().get(name, Settings()), **{key: getattr(user, key) for key in given})


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    name, _, query = spec.partition("?")
    given: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True))
    if "mrl_dims" in given:
        given["mrl_dims"] = [part for part in given["mrl_dims"].split(",") if part]
    return name, given


def load(spec: str) -> Embedder | System:
    """Make the embedder or system a spec names, without loading its weights yet.

    Raises OptionError where the spec itself is wrong (unknown provider, option or name), ModelError where what it names
    cannot be had (missing package, missing weights), both with the fix.
    """
    name, chosen = settings(spec)
    provider, _, rest = name.partition("/")
    if provider not in providers():
        known = ", ".join(providers())
        near = nearest(provider, providers())
        hub = f"; for a hub id write 'st/{name}'" if name.count("/") == 1 and not near else ""
        raise OptionError(f"model {spec!r}: no provider {provider!r}; there are {known}{near}{hub}")
    try:
        module = importlib.import_module(f"providers.{provider.replace('-', '_')}")
        _check_taken(_split(spec)[1], (*getattr(module, "SETTINGS", ()), *Settings().facts()))
        made: Embedder | System = module.load(rest, chosen)
    except ImportError as error:
        raise ModelError(f"{spec}: {needs_package(error)}") from error
    except HarnessError as error:
        raise type(error)(f"{spec}: {error}") from error
    return made


def needs_package(error: ImportError) -> str:
    """What to install where an import failed."""
    package = (error.name or "unknown").partition(".")[0]
    return f"needs the package {package!r}, which cannot be imported ({error}): pip install {package}"


def _check_taken(given: Iterable[str], taken: Sequence[str]) -> None:
    for key in given:
        if key not in taken:
            raise OptionError(f"option {key!r} has no effect on this provider; it takes {', '.join(sorted(taken))}")


def _settings(table: dict[str, Any], where: str) -> Settings:
    for key in table:
        if key not in _USER_OPTIONS:
            raise OptionError(f"{where}: unknown option {key!r}; known: {', '.join(_USER_OPTIONS)}{nearest(key, _USER_OPTIONS)}")
    try:
        return msgspec.convert(table, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise OptionError(f"{where}: {error}") from None
