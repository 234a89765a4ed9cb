"""The models of the catalog for somebody who chooses: which of them fit a wish, and which can run now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import get_args

from harness import catalog, keys
from harness.embedder import Settings, Task
from harness.errors import OptionError, nearest

TASKS: tuple[str, ...] = get_args(Task)
HEADINGS = ("model", "dims", "max tokens", "USD / M tokens", "licence", "tasks", "can run")
_UNSAID = "–"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalog. ``missing`` is what a user has to do before it can run, an empty string where nothing is missing."""

    name: str
    known: Settings
    local: bool
    missing: str = ""

    @property
    def usd(self) -> float | None:
        """The price in USD per million tokens: 0 for a local model, None where it is not known."""
        return 0.0 if self.local else self.known.usd_per_million_tokens if self.known.usd_source else None

    @property
    def hub_id(self) -> str:
        """The organisation/name under which a local model's files are on the hub; an empty string where they are elsewhere."""
        return self.name.partition("/")[2] if self.local and self.name.count("/") > 1 else ""

    def row(self) -> tuple[str, ...]:
        """What a table shows of it, one text for each of ``HEADINGS``. A local model's own files say what is not said here."""
        known = self.known
        dims = (known.dim or "native", *known.mrl_dims)
        price = "unknown" if self.usd is None else f"{self.usd:g}" + (f" ({known.usd_date})" if known.usd_date else "")
        return (
            self.name,
            ", ".join(map(str, dims)),
            f"{known.max_tokens:,}" if known.max_tokens else _UNSAID,
            price,
            known.licence or _UNSAID,
            ", ".join(known.tasks) or _UNSAID,
            self.missing or ("downloads from the hub" if self.hub_id else "yes"),
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What a model should have, None or False where it does not matter.

    ``max_usd`` is in USD per million tokens. ``mrl``: dimensions it was trained to be cut at. ``can_run``: nothing missing here.
    """

    task: str | None = None
    max_usd: float | None = None
    mrl: bool = False
    can_run: bool = False


@dataclass(frozen=True, slots=True)
class Fitting:
    """The models that fit a wish, and how many would but for a price that is not known."""

    entries: tuple[Entry, ...]
    unpriced: int = 0


def listed() -> tuple[Entry, ...]:
    """Every model of the catalog, by name."""
    found = []
    for name, known in sorted(catalog.entries().items()):
        provider = name.partition("/")[0]
        local = not (known.usd_source or catalog.keys(provider))
        found.append(Entry(name, known, local, missing(provider)))
    return tuple(found)


def missing(provider: str) -> str:
    """What a user has to do before a provider's models can run: install its package, set its key; an empty string for nothing."""
    if provider not in catalog.providers():
        return f"no provider {provider!r}"
    if trouble := catalog.trouble(provider):
        return trouble
    package, variables = catalog.package(provider), catalog.keys(provider)
    steps = []
    if package and not _installed(package):
        steps.append(f"pip install {catalog.EXTRAS.get(package, package)}")
    if variables and keys.find(*variables, secret=False) is None:
        steps.append(f"set {' or '.join(variables)}")
    return ", ".join(steps)


def fitting(entries: Iterable[Entry], wish: Wish) -> Fitting:
    """The models that fit a wish, in their order; raises OptionError for a task there is none of."""
    if wish.task is not None and wish.task not in TASKS:
        raise OptionError(f"task {wish.task!r} is not one of {', '.join(TASKS)}{nearest(wish.task, TASKS)}")
    fit = [
        entry
        for entry in entries
        if (wish.task is None or wish.task in entry.known.tasks)
        and (entry.known.mrl_dims or not wish.mrl)
        and not (entry.missing and wish.can_run)
    ]
    if wish.max_usd is None:
        return Fitting(tuple(fit))
    cheap = tuple(entry for entry in fit if entry.usd is not None and entry.usd <= wish.max_usd)
    return Fitting(cheap, unpriced=sum(entry.usd is None for entry in fit))


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the package around it is not there
        return False
