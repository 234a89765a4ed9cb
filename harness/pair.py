"""Two models of one space: documents embedded with the one, queries with the other, as ``voyage/voyage-4-large+voyage/voyage-4-lite``."""

from __future__ import annotations

from collections.abc import Sequence

from harness.embedder import Embedded, Embedder, Item, Model, Role
from harness.errors import OptionError


class Pair:
    """An Embedder made of two. Vectors are stored under the model that made them, so that a model by itself costs nothing more."""

    def __init__(self, documents: Embedder, queries: Embedder) -> None:
        """Raises OptionError where the two don't have vectors of one length."""
        one, other = documents.model, queries.model
        if one.dim != other.dim:
            raise OptionError(f"{one} has vectors of {one.dim} dimensions, {other} of {other.dim}; ask both for the same with ?dimensions=")
        self._of: dict[Role, Embedder] = {"document": documents, "query": queries}
        self.batch = documents.batch
        prices = (one.usd_per_million_tokens, other.usd_per_million_tokens)
        self.model = Model(
            provider=one.provider,
            name=f"{one.name}+{other}",
            revision="",
            dim=one.dim,
            max_tokens=one.max_tokens,
            options=(("documents", one.digest()), ("queries", other.digest())),
            mrl_dims=tuple(dim for dim in one.mrl_dims if dim in other.mrl_dims),
            licence=one.licence if one.licence == other.licence else f"{one.licence or '?'}, {other.licence or '?'}",
            usd_per_million_tokens=None if None in prices else prices[0],  # of a half that is not known, the whole is not
            query_usd_per_million_tokens=None if None in prices else prices[1],
            local=one.local and other.local,
        )

    def of(self, role: Role) -> Embedder:
        """The model that embeds this role."""
        return self._of[role]

    def prepare(self) -> None:
        """Nothing: each of the two is prepared when it is asked."""

    def embed(self, items: Sequence[Item], role: Role) -> Embedded:
        """Embed items with the model of their role."""
        self._of[role].prepare()
        return self._of[role].embed(items, role)


def of(embedder: Embedder, role: Role) -> Embedder:
    """The model that embeds a role: one of a pair, or the only one there is."""
    return embedder.of(role) if isinstance(embedder, Pair) else embedder
