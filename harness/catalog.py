"""From the words a user writes, ``provider/model?option=value``, to an embedder or a system."""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType, ModuleType
from typing import Any, get_args, get_type_hints
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from harness import extensions
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
EXTRAS = {
    "h5py": "bakeoff[elmo]",
    "onnxruntime": "bakeoff[onnx]",
    "openvino": "bakeoff[openvino]",
    "xllamacpp": "bakeoff[gguf]",
    "open_clip": "bakeoff[open-clip]",
}
"""Packages that come with an extra of ours: module -> what to install."""
_PRICE = ("usd_per_million_tokens", "usd_source", "usd_date")
_KNOWN = tuple(f.name for f in fields(Settings))
_CATALOG_ONLY = ("modality", "tasks", "parameters", "space", "usd_source", "usd_date")
_USER_OPTIONS = tuple(name for name in _KNOWN if name not in _CATALOG_ONLY)
_FACTS = ("mrl_dims", "licence", "usd_per_million_tokens")
"""Options that describe a model and change no vector: every provider takes them."""
_INSTRUCTIONS = {"query": "instruction", "document": "document_instruction"}
"""The options that fill the prompts of each role."""
_PROMPTS = ("query_prompt", "document_prompt", *_INSTRUCTIONS.values())
HOLE = "{instruction}"
"""Where a prompt has room for what a model is told of the task."""
_NOTHING_SAID: Mapping[str, str] = MappingProxyType({})
_INNER = re.compile(r"(?<=[a-z])_(?=[a-z])")
_PLUS = re.compile(r"\+(?=[a-z][a-z0-9-]*/)")
_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(/[\w./~-]*)?")  # with nothing in it that could be a key
_PASSWORD = re.compile(r"//[^/?&]*@")


def providers() -> list[str]:
    """The providers there are, as users write them: each public module of the package ``providers``, and those of other packages."""
    return sorted({*_ours(), *extensions.found()})


def describe(provider: str) -> str:
    """The first line of a provider's documentation: what it answers to, and what it is; of one by others also where it is from."""
    theirs = extensions.found().get(provider)
    try:
        said = (_module(provider).__doc__ or f"{provider}/<name>").strip().partition("\n")[0].replace("``", "")
    except ModelError as error:
        return f"{provider}/...: cannot be used: {error}"
    return f"{said} (from {theirs.origin})" if theirs else said


def trouble(provider: str) -> str:
    """Why none of a provider's models can be loaded: another package's module is broken, or clashes; an empty string where all is well."""
    try:
        _module(provider)
    except ModelError as error:
        return str(error)
    return ""


def keys(provider: str) -> tuple[str, ...]:
    """The environment variables that may hold a provider's key, of which one is enough; none for what runs on this machine."""
    return tuple(_said(provider, "KEYS", ()))


def package(provider: str) -> str:
    """The package a provider's requests go through, by the name it is imported by; an empty string where it needs none."""
    return str(_said(provider, "PACKAGE", ""))


def _said(provider: str, what: str, otherwise: Any) -> Any:
    """What a provider's module says of itself. Where another package offers the same provider, ours still describes our catalog."""
    if provider in _ours():
        return getattr(_our_module(provider), what, otherwise)
    if provider not in extensions.found() or trouble(provider):
        return otherwise
    return getattr(_module(provider), what, otherwise)


def _ours() -> list[str]:
    import providers as package

    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [name.replace("_", "-") for name in names if not name.startswith("_")]


def _our_module(provider: str) -> ModuleType:
    return importlib.import_module(f"providers.{provider.replace('-', '_')}")


def _module(provider: str) -> ModuleType:
    """The module behind a provider; raises ModelError where it is another package's and cannot be used, or where two offer it."""
    theirs = extensions.found().get(provider)
    if theirs is None:
        return _our_module(provider)
    if provider in _ours():
        raise ModelError(extensions.clash(provider, "bakeoff itself", *map(extensions.distribution, theirs.offers)))
    return theirs.module()


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
    chosen = replace(entries().get(name, Settings()), **{key: getattr(user, key) for key in given})
    if "instruction" not in given and HOLE not in f"{chosen.query_prompt}{chosen.document_prompt}":
        chosen = replace(chosen, instruction=None)  # the catalog's, which the user's own prompt has no place for
    if "code_revision" not in given and not chosen.trust_remote_code:
        chosen = replace(chosen, code_revision=None)  # the catalog's is for whoever consents to that code
    return name, chosen


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    name, _, query = spec.partition("?")
    provider, slash, rest = name.partition("/")
    name = f"{_INNER.sub('-', provider)}{slash}{rest}"  # a provider may be written as its module is called
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


def load(spec: str, instructions: Mapping[str, str] = _NOTHING_SAID) -> Embedder | System:
    """Make the embedder or system a spec names, without loading its weights yet. ``A+B`` embeds documents with A, queries with B.

    ``instructions`` (role -> text) are the dataset's; they fill a prompt that says {instruction}, unless the spec says another.

    Raises OptionError where the spec itself is wrong (unknown provider, option or name), ModelError where what it names
    cannot be had (missing package, missing weights), both with the fix.
    """
    parts = _PLUS.split(spec)
    if len(parts) == 1:
        return _load(spec, instructions)
    if len(parts) > 2:
        raise OptionError(f"model {public(spec)!r} pairs {len(parts)} models; two is what there are roles for, documents+queries")
    spaces = [settings(part)[1].space for part in parts]
    if not spaces[0] or spaces[0] != spaces[1]:
        known = sorted(name for name, entry in entries().items() if entry.space)
        fix = f"the catalog knows this of {', '.join(known)}"
        raise OptionError(
            f"model {public(spec)!r}: nothing says that {public(parts[0])} and {public(parts[1])} share a space of vectors; {fix}"
        )
    documents, queries = _load(parts[0], instructions), _load(parts[1], instructions)
    if isinstance(documents, System) or isinstance(queries, System):
        raise OptionError(f"model {public(spec)!r}: only what makes vectors can be paired")
    return Pair(documents, queries)


def _load(spec: str, instructions: Mapping[str, str]) -> Embedder | System:
    name, chosen = settings(spec)
    provider, _, rest = name.partition("/")
    if provider not in providers():
        known = ", ".join(providers())
        near = nearest(provider, providers())
        hub = f"; for a hub id write 'st/{name}'" if name.count("/") == 1 and not near else ""
        raise OptionError(f"model {public(spec)!r}: no provider {spec.partition('/')[0]!r}; there are {known}{near}{hub}")
    theirs = extensions.found().get(provider)
    try:
        module = _module(provider)
        given = _split(spec)[1]
        taken = tuple(getattr(module, "SETTINGS", ()))
        _check_taken(given, (*taken, *_FACTS, *(_INSTRUCTIONS.values() if takes_prompts(spec) else ())))
        made: Embedder | System | Endpoint = module.load(rest, _filled(chosen, given, instructions, own="instruction" in taken))
        if theirs:
            _check_made(made, provider, theirs.origin)
    except ImportError as error:
        whose = f"{theirs.origin} " if theirs else ""
        raise ModelError(f"{public(spec)}: {whose}{needs_package(error)}") from error
    except HarnessError as error:
        raise type(error)(f"{public(spec)}: {redact(str(error))}") from error
    return Remote(made) if isinstance(made, Endpoint) else made


def _check_made(made: object, provider: str, origin: str) -> None:
    """Raise ModelError unless another package's ``load`` gave what can be measured, under a name of its own in the store of vectors."""
    if not isinstance(made, (Embedder, System, Endpoint)):
        raise ModelError(f"load() of {origin} gave {type(made).__name__}, which is no Embedder, System or Endpoint")
    if made.model.provider != provider:
        raise ModelError(f"{origin} calls its model's provider {made.model.provider!r}, but it is {provider!r}: vectors would be mixed up")


def _filled(chosen: Settings, given: Mapping[str, Any], instructions: Mapping[str, str], *, own: bool) -> Settings:
    """Fill the {instruction} of prompts with the user's own, else the dataset's, else the catalog's; raises OptionError for none.

    With ``own``, a prompt of None is that of the model's own files: ``Settings.prompts`` fills it when they are read.
    """
    for role, option in _INSTRUCTIONS.items():
        prompt = getattr(chosen, f"{role}_prompt")
        said = given.get(option) or instructions.get(role) or getattr(chosen, option)
        if prompt is None and (own or option not in given):
            continue
        prompt = prompt or ""
        if HOLE in prompt and not said:
            fix = f"add ?{option}=..., or [instructions] with {role} = ... to dataset.toml"
            raise OptionError(f"the {role}_prompt {prompt!r} needs an instruction: {fix}")
        if HOLE not in prompt and option in given:
            fix = f"give one that has it with ?{role}_prompt=..."
            raise OptionError(f"option {option!r} has no effect: the {role}_prompt has no {HOLE} in it; {fix}")
        filled: dict[str, Any] = {f"{role}_prompt": prompt.replace(HOLE, said or ""), option: None}
        chosen = replace(chosen, **filled)
    return chosen


def takes_prompts(spec: str) -> bool:
    """Whether a spec names a provider that puts prompts in front of texts; APIs mostly have switches instead."""
    return _takes(spec, "query_prompt")


def _takes(spec: str, option: str) -> bool:
    provider = _split(spec)[0].partition("/")[0]
    return provider in providers() and option in getattr(_module(provider), "SETTINGS", ())


def with_compute(specs: Iterable[str], compute: str | None) -> list[str]:
    """The same models in that precision, those that compute here and don't say one themselves: what ``--compute`` asks for."""
    return ["+".join(_with_compute(part, compute) for part in _PLUS.split(spec)) if compute else spec for spec in specs]


def _with_compute(spec: str, compute: str) -> str:
    said = "compute" in _split(spec)[1] or not _takes(spec, "compute")
    return spec if said else f"{spec}{'&' if '?' in spec else '?'}compute={compute}"


def with_prompts(spec: str, query: str, document: str) -> str:
    """The same model with other prompts, as a user would write it."""
    name, _, options = spec.partition("?")
    kept = [(key, value) for key, value in parse_qsl(options, keep_blank_values=True) if key not in _PROMPTS]
    told = urlencode([*kept, ("query_prompt", query), ("document_prompt", document)], safe="/:,", quote_via=quote)
    return f"{name}?{told}"


def by_server(specs: Sequence[str], dims: Sequence[Dim] = (), instructions: Mapping[str, str] = _NOTHING_SAID) -> list[str]:
    """The same models, and each of an API once more for every smaller dimension: what ``--server-dims`` asks for."""
    found: list[str] = []
    for spec in specs:
        found.append(spec)
        embedder = load(spec, instructions)
        if isinstance(embedder, Remote) and "?dimensions=" not in spec.replace("&", "?"):
            smaller = [dim for dim in dims if dim != "native"] or embedder.model.mrl_dims
            found += [f"{spec}{'&' if '?' in spec else '?'}dimensions={dim}" for dim in smaller if dim < embedder.model.dim]
    return found


def needs_package(error: ImportError) -> str:
    """What to install where an import failed: the package, or the extra of ours that brings it."""
    package = (error.name or "unknown").partition(".")[0]
    extra = EXTRAS.get(package)
    return f"needs the package {package!r}, which cannot be imported ({error}): pip install {f'{extra!r}' if extra else package}"


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
        raise OptionError(f"{where}: {error}{_allowed(str(error))}") from None


def _allowed(said: str) -> str:
    """What an option with a few words to choose from takes, where msgspec says that another was given."""
    words = [word for kind in get_args(get_type_hints(Settings).get(said.rpartition("$.")[2].strip("`"))) for word in get_args(kind)]
    return f"; allowed: {', '.join(words)}" if "enum" in said and words else ""
