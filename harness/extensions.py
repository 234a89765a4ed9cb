"""Providers that other packages bring: modules behind the entry-point group ``bakeoff.providers``.

A distribution that declares ``foo = "bakeoff_foo"`` there answers to ``foo/<name>``. Its module is imported when one of its models
is named, or when the providers are listed; what is wrong with it is the concern of its own models only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from harness.errors import ModelError

GROUP = "bakeoff.providers"
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Extension:
    """One provider, and the entry points that offer it: one, unless distributions clash."""

    provider: str
    offers: tuple[EntryPoint, ...]

    @property
    def origin(self) -> str:
        """The distribution with its version, as ``bakeoff-foo 1.2``; several joined by ``and``."""
        return " and ".join(map(distribution, self.offers))

    def module(self) -> ModuleType:
        """Import it; raises ModelError naming the distribution where it cannot be had or is no provider."""
        if not _NAME.fullmatch(self.provider):
            raise ModelError(f"{self.origin} offers a provider {self.provider!r}; a name is lower-case letters, digits and hyphens")
        if len(self.offers) > 1:
            raise ModelError(clash(self.provider, *map(distribution, self.offers)))
        try:
            found = self.offers[0].load()
        except ImportError as error:
            raise ModelError(f"{self.origin} cannot be imported ({error}): {_fix(self.offers[0], error)}") from error
        except Exception as error:  # the code of others may raise anything, and must not stop everybody else's models
            raise ModelError(f"{self.origin} cannot be imported ({type(error).__name__}: {error}); tell its authors") from error
        if not (isinstance(found, ModuleType) and callable(getattr(found, "load", None))):
            raise ModelError(f"{self.origin}: {self.offers[0].value!r} is not a module with a function load(name, settings)")
        return found


@cache
def found() -> dict[str, Extension]:
    """Every provider that an installed distribution offers, by name; nothing is imported."""
    offers: dict[str, list[EntryPoint]] = {}
    for offer in entry_points(group=GROUP):
        offers.setdefault(offer.name.replace("_", "-"), []).append(offer)
    return {name: Extension(name, tuple(sorted(those, key=distribution))) for name, those in sorted(offers.items())}


def distribution(offer: EntryPoint) -> str:
    """The distribution that declares an entry point, with its version, as ``bakeoff-foo 1.2``."""
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else offer.value


def clash(provider: str, *owners: str) -> str:
    """The sentence for a provider that more than one package offers."""
    return f"provider {provider!r} is offered by both {' and '.join(owners)}: keep one, as in pip uninstall {owners[-1].partition(' ')[0]}"


def _fix(offer: EntryPoint, error: ImportError) -> str:
    missing, own = (error.name or "").partition(".")[0], offer.value.partition(".")[0].partition(":")[0]
    package = offer.dist.name if offer.dist else own
    return f"pip install --force-reinstall {package}" if missing in ("", own) else f"pip install --upgrade {package} {missing}"
