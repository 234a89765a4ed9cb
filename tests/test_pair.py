"""Documents by one model, queries by another of the same space: each is asked for its own texts, paid its own price, stored under its own name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset

import harness
from harness import catalog, scale
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.embedder import Embedder, Item, Model, Role
from harness.errors import BudgetError, OptionError
from harness.ledger import Ledger
from harness.pair import Pair, of
from harness.remote import Answer, Failure, Limits
from harness.store import VectorStore
from providers.hash import HashEmbedder


class Endpoint:
    """A model behind an API whose vectors are those of hash/64, a little turned by its name, and whose words are tokens."""

    def __init__(
        self, name: str, price: float | None = 0.0, dim: int = 64, mrl_dims: tuple[int, ...] = (32, 16), licence: str = "MIT"
    ) -> None:
        facts = {"mrl_dims": mrl_dims, "licence": licence, "usd_per_million_tokens": price}
        self.model = Model(provider="paid", name=name, revision="", dim=dim, local=False, **facts)
        self.limits = Limits(items=16)
        self.asked: list[tuple[Role, str]] = []
        self.connected = 0

    def connect(self) -> None:
        self.connected += 1

    def ask(self, items: Sequence[Item], role: Role) -> Answer:
        self.asked += [(role, item.full) for item in items]
        rows = HashEmbedder(self.model.dim, harness.embedder.Settings()).embed(items, role).vectors
        turned = rows + (0.1 if self.model.name == "large" else 0.0)
        return Answer(turned, None, sum(len(item.full.split()) for item in items))

    def explain(self, error: Exception) -> Failure:
        raise error


@pytest.fixture
def large() -> Endpoint:
    return Endpoint("large", price=3.0)


@pytest.fixture
def light() -> Endpoint:
    return Endpoint("light", price=0.5)


def pair(documents: Endpoint, queries: Endpoint) -> Pair:
    return Pair(Remote(documents), Remote(queries))


def evaluated(dataset: Dataset, folder: Path, embedder: Embedder, budget: float | None = None) -> harness.Leaderboard:
    return harness.evaluate(dataset, [embedder], dims=["native"], store_folder=folder / "store", floors=False, budget=budget)


def words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)


# ---- what may be paired


def test_models_whose_space_the_catalog_knows_are_paired() -> None:
    found = catalog.load("voyage/voyage-4-large+voyage/voyage-4-lite")
    assert isinstance(found, Pair)
    assert str(found.model) == "voyage/voyage-4-large+voyage/voyage-4-lite"
    assert (str(of(found, "document").model), str(of(found, "query").model)) == ("voyage/voyage-4-large", "voyage/voyage-4-lite")
    assert (found.model.usd_per_million_tokens, found.model.query_usd_per_million_tokens) == (0.12, 0.02)
    assert not found.model.local


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            "openai/text-embedding-3-large+openai/text-embedding-3-small",
            "nothing says that openai/text-embedding-3-large and openai/.* share",
        ),
        (
            "voyage/voyage-4+voyage/voyage-3.5",
            "nothing says that voyage/voyage-4 and voyage/voyage-3.5 share a space of vectors; the catalog ",
        ),
        ("voyage/voyage-4+cohere/embed-v5.0-pro", "nothing says"),
        ("hash/64+hash/64", "nothing says that hash/64 and hash/64 share"),
        ("wordllama/256+bm25", "is not in the wheel"),
        ("voyage/voyage-4+voyage/voyage-4-lite+voyage/voyage-4-large", "pairs 3 models; two is what there are roles for"),
        ("voyage/voyage-4?dimensions=512+voyage/voyage-4-lite", "has vectors of 512 dimensions, .* of 2048; ask both for the same with"),
    ],
)
def test_all_others_are_refused(spec: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        catalog.load(spec)


def test_the_refusal_names_the_models_that_can_be_paired() -> None:
    with pytest.raises(OptionError, match=r"the catalog knows this of .*voyage/voyage-4, voyage/voyage-4-large, voyage/voyage-4-lite"):
        catalog.load("voyage/voyage-4+openai/text-embedding-3-small")


def test_both_may_be_asked_for_a_smaller_dimension() -> None:
    found = catalog.load("voyage/voyage-4-large?dimensions=512+voyage/voyage-4-lite?dimensions=512")
    assert isinstance(found, Pair)
    assert found.model.dim == 512


# ---- what a pair is


def test_a_pair_has_what_both_have(large: Endpoint) -> None:
    light = Endpoint("light", mrl_dims=(32, 8), licence="Apache-2.0")
    made = pair(large, light).model
    assert (made.dim, made.mrl_dims, made.licence) == (64, (32,), "MIT, Apache-2.0")
    assert pair(large, large).model.licence == "MIT"


def test_each_half_and_their_order_make_the_pairs_identity(large: Endpoint, light: Endpoint) -> None:
    models = [pair(large, light).model, pair(light, large).model, pair(large, large).model, large.model, light.model]
    assert len({model.digest() for model in models}) == len(models)


def test_of_another_embedder_both_roles_are_itself() -> None:
    alone = HashEmbedder(8, harness.embedder.Settings())
    assert of(alone, "query") is alone is of(alone, "document")


def test_embedding_asks_the_model_of_the_role_and_connects_no_other(large: Endpoint, light: Endpoint) -> None:
    made = pair(large, light)
    made.prepare()
    assert (large.connected, light.connected) == (0, 0)
    assert made.embed([Item("a query")], "query").vectors.shape == (1, 64)
    assert (large.connected, light.connected) == (0, 1)
    assert (large.asked, light.asked) == ([], [("query", "a query")])


# ---- what a run of it does


def test_each_model_embeds_its_role_and_both_are_stored_under_their_own_names(
    tiny: Dataset, tmp_path: Path, large: Endpoint, light: Endpoint
) -> None:
    board = evaluated(tiny, tmp_path, pair(large, light))
    assert not board.absences
    documents, queries = [f"{d.title} {d.text}" for d in tiny.documents], [q.text for q in tiny.queries]
    assert sorted(large.asked) == sorted(("document", text) for text in documents)
    assert sorted(light.asked) == sorted(("query", text) for text in queries)

    large.asked.clear()
    light.asked.clear()
    evaluated(tiny, tmp_path, Remote(large))  # the large one by itself needs queries, and no document again
    assert sorted(large.asked) == sorted(("query", text) for text in queries)
    evaluated(tiny, tmp_path, Remote(light))
    assert sorted(light.asked) == sorted(("document", text) for text in documents)
    evaluated(tiny, tmp_path, pair(light, large))  # and now nothing
    assert (len(large.asked), len(light.asked)) == (len(queries), len(documents))


def test_a_pair_ranks_by_documents_of_the_one_and_queries_of_the_other(
    tiny: Dataset, tmp_path: Path, large: Endpoint, light: Endpoint
) -> None:
    (result,) = evaluated(tiny, tmp_path, pair(large, light)).results
    rows, asked = ([Item(d.text, d.title) for d in tiny.documents], [Item(q.text) for q in tiny.queries])
    documents, queries = (
        np.asarray(one.ask(items, role).vectors) for one, items, role in ((large, rows, "document"), (light, asked, "query"))
    )  # type: ignore[arg-type]
    documents, queries = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in (documents, queries))
    best = (queries @ documents.T).argmax(axis=1)
    assert [ids[0] for ids in result.documents] == [tiny.documents[row].id for row in best]


def test_documents_and_queries_are_billed_at_their_own_prices(tiny: Dataset, tmp_path: Path, large: Endpoint, light: Endpoint) -> None:
    board = evaluated(tiny, tmp_path, pair(large, light), budget=1.0)
    (result,) = board.results
    documents, queries = words([f"{d.title} {d.text}" for d in tiny.documents]), words([q.text for q in tiny.queries])
    assert (result.cost.document_tokens, result.cost.query_tokens) == (documents, queries)
    assert result.cost.usd == pytest.approx((3.0 * documents + 0.5 * queries) / 1e6)

    needs = scale.Needs(documents=10 * len(tiny.documents), queries_per_day=100)
    bill = scale.bill(result, board.dataset, needs)
    assert bill.embed_usd == pytest.approx(10 * 3.0 * documents / 1e6)
    assert bill.month_usd == pytest.approx(0.5 * queries / 1e6 / len(tiny.queries) * 100 * scale.DAYS)

    store = VectorStore(tmp_path / "store")
    ledger = Ledger(store, tiny.about.name)
    assert ledger.spent() == pytest.approx(result.cost.usd)
    assert result.cost.requests == sum(ledger.account(one.model).requests for one in (large, light))
    store.close()


def test_an_unknown_price_of_either_half_is_not_the_others(tiny: Dataset, tmp_path: Path, large: Endpoint) -> None:
    board = evaluated(tiny, tmp_path, pair(large, Endpoint("light", price=None)))
    (result,) = board.results
    assert result.cost.usd is None
    assert scale.bill(result, board.dataset, scale.Needs(queries_per_day=1)).month_usd is None
    (result,) = evaluated(make_dataset(20, 5, seed=1), tmp_path, pair(Endpoint("light", price=None), large)).results
    assert result.cost.usd is None


def test_a_budget_that_cannot_be_kept_for_the_queries_pays_for_no_document(tiny: Dataset, tmp_path: Path, large: Endpoint) -> None:
    board = evaluated(tiny, tmp_path, pair(large, Endpoint("light", price=None)), budget=1.0)
    assert "the price of paid/light is not in the catalog" in board.absences[0].reason
    assert large.asked == []


def test_a_pairs_budget_is_one_for_both(tiny: Dataset, tmp_path: Path, large: Endpoint, light: Endpoint) -> None:
    documents = words([f"{d.title} {d.text}" for d in tiny.documents])
    board = evaluated(tiny, tmp_path, pair(large, light), budget=3.0 * documents / 1e6)
    assert issubclass(BudgetError, harness.HarnessError)
    assert "the next request could pass the budget" in board.absences[0].reason
    store = VectorStore(tmp_path / "store")
    assert Ledger(store, tiny.about.name).spent() <= 3.0 * documents / 1e6
    store.close()
