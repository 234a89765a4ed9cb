"""What was paid, and what may be paid still: never above the budget, whoever shares the store, however a run ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.embedder import Embedded, Item, Model
from harness.errors import BudgetError, ModelError
from harness.ledger import Account, Ledger
from harness.store import VectorStore, keys


def model(name: str = "m", price: float | None = 1.0) -> Model:
    """At 1 USD per million tokens, tokens are micro-dollars."""
    return Model(provider="paid", name=name, revision="", dim=2, usd_per_million_tokens=price, local=False)


Open = Callable[..., Ledger]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again, each time over a connection of its own."""
    stores: list[VectorStore] = []

    def open_(dataset: str = "data", budget: float | None = None) -> Ledger:
        stores.append(VectorStore(tmp_path / "store"))
        return Ledger(stores[-1], dataset, budget)

    yield open_
    for store in stores:
        store.close()


def test_a_request_counts_at_most_until_it_is_settled_at_what_it_was(opened: Open) -> None:
    ledger = opened(budget=0.001)
    purse = ledger.purse(model())
    ticket = purse.reserve(900, 3)
    assert ticket is not None
    assert ledger.spent() == pytest.approx(0.0009)
    assert purse.reserve(101, 1) is None
    purse.settle(ticket, "answered", 250)
    assert ledger.spent() == pytest.approx(0.00025)
    assert purse.reserve(101, 1) is not None
    assert purse.account() == "0.000351 of 0.001 USD are spent on data"


def test_the_last_cent_may_be_spent_and_not_one_token_more(opened: Open) -> None:
    purse = opened(budget=1.0).purse(model())
    assert purse.reserve(1_000_001, 1) is None
    ticket = purse.reserve(1_000_000, 1)
    assert ticket is not None
    assert purse.reserve(1, 1) is None
    assert purse.reserve(0, 1) is not None  # what costs nothing always may


def test_a_budget_of_nothing_pays_for_nothing_and_for_what_is_free(opened: Open) -> None:
    ledger = opened(budget=0.0)
    assert ledger.purse(model()).reserve(1, 1) is None
    assert ledger.purse(model("free", 0.0)).reserve(10**9, 1) is not None


def test_without_a_budget_everything_is_written_down_all_the_same(opened: Open) -> None:
    ledger = opened()
    ticket = ledger.purse(model("unknown", None)).reserve(10**12, 5)
    assert ticket is not None
    assert ledger.purse(model()).reserve(10**6, 5) is not None
    assert ledger.spent() == pytest.approx(1.0)


def test_a_budget_needs_a_price(opened: Open) -> None:
    with pytest.raises(
        BudgetError, match=r"the price of paid/m is not in the catalog; say it, as in .usd_per_million_tokens=0.02, or leave"
    ):
        opened(budget=1.0).purse(model(price=None))
    with pytest.raises(BudgetError, match="no price of images for paid/m"):
        opened(budget=1.0).purse(model(), images=True)
    assert isinstance(BudgetError("x"), ModelError)
    opened().purse(model(price=None), images=True)
    opened(budget=1.0).purse(model(price=0.0), images=True)


def test_two_ledgers_of_one_store_share_the_budget(opened: Open) -> None:
    one, other = opened(budget=0.001), opened(budget=0.001)
    first = one.purse(model()).reserve(600, 1)
    assert first is not None
    assert other.purse(model("another")).reserve(600, 1) is None  # another model's money is the same money
    one.purse(model()).settle(first, "answered", 100)
    assert other.purse(model("another")).reserve(600, 1) is not None
    assert one.spent() == other.spent() == pytest.approx(0.0007)


def test_another_dataset_has_a_budget_of_its_own(opened: Open) -> None:
    assert opened("one", 0.001).purse(model()).reserve(1000, 1) is not None
    assert opened("two", 0.001).purse(model()).reserve(1000, 1) is not None
    assert opened("one", 0.001).purse(model()).reserve(1, 1) is None


def test_a_later_run_goes_on_where_the_earlier_one_stopped(opened: Open) -> None:
    purse = opened(budget=0.001).purse(model())
    purse.settle(purse.reserve(700, 1) or 0, "answered", 700)
    later = opened(budget=0.002)
    assert later.spent() == pytest.approx(0.0007)
    assert later.purse(model()).reserve(1301, 1) is None
    assert later.purse(model()).reserve(1300, 1) is not None


RACER = """
import sys
from pathlib import Path
from harness.embedder import Model
from harness.ledger import Ledger
from harness.store import VectorStore
store = VectorStore(Path(sys.argv[1]))
model = Model(provider="paid", name="m", revision="", dim=2, usd_per_million_tokens=1.0, local=False)
purse, got = Ledger(store, "data", 0.001).purse(model), 0
print("ready", flush=True)
sys.stdin.readline()
while (ticket := purse.reserve(7, 1)) is not None:
    got += 1
    if len(sys.argv) > 2 and got == 5:
        print(got, flush=True)
        sys.stdin.readline()
    purse.settle(ticket, "answered", 5)
print(got, flush=True)
"""


def race(store: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RACER, str(store), *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_two_processes_never_spend_more_than_there_is_together(tmp_path: Path, opened: Open) -> None:
    opened()
    racers = [race(tmp_path / "store") for _ in range(2)]
    assert [line(racer) for racer in racers] == ["ready"] * 2
    for racer in racers:
        go(racer)
    got = [int(line(racer)) for racer in racers]
    for racer in racers:
        racer.communicate()
    spent = opened().spent()
    assert spent == pytest.approx(sum(got) * 5e-6)
    assert 0.001 - 14e-6 < spent <= 0.001


def test_what_a_killed_process_had_in_flight_stays_reserved_at_most(tmp_path: Path, opened: Open) -> None:
    opened()
    killed = race(tmp_path / "store", "stop at five")
    assert line(killed) == "ready"
    go(killed)
    assert line(killed) == "5"
    killed.kill()
    killed.communicate()
    ledger = opened(budget=0.001)
    assert ledger.spent() == pytest.approx((4 * 5 + 7) / 1e6)
    assert ledger.account(model()) == Account(requests=5, lost=1, lost_usd=pytest.approx(7e-6))
    assert ledger.purse(model()).reserve(1000 - 27 + 1, 1) is None


@settings(max_examples=30, deadline=None)
@given(
    budget=st.floats(0, 0.01),
    steps=st.lists(
        st.tuples(st.integers(0, 3000), st.sampled_from(["answered", "lost", "wrong", "unpaid", None]), st.floats(0, 1)), max_size=25
    ),
)
def test_as_long_as_no_request_is_more_than_reserved_the_budget_holds(
    tmp_path_factory: pytest.TempPathFactory, budget: float, steps: list[tuple[int, str | None, float]]
) -> None:
    store = VectorStore(tmp_path_factory.mktemp("store"))
    ledger = Ledger(store, "data", budget)
    purse, expected = ledger.purse(model()), 0.0
    for most, state, share in steps:
        ticket = purse.reserve(most, 1)
        assert (ticket is None) == (expected + most / 1e6 > budget + 1e-15)
        if ticket is None:
            continue
        true = most if state is None else 0 if state == "unpaid" else int(most * share)
        if state is not None:
            purse.settle(ticket, state, true)  # type: ignore[arg-type]
        expected += true / 1e6
        assert ledger.spent() == pytest.approx(expected, abs=1e-12)
        assert ledger.spent() <= budget + 1e-12
    store.close()


def test_a_bill_above_what_was_reserved_is_written_down_and_nothing_more_leaves(opened: Open) -> None:
    ledger = opened(budget=0.001)
    purse = ledger.purse(model())
    purse.settle(purse.reserve(10, 1) or 0, "answered", 5000)
    assert ledger.spent() == pytest.approx(0.005)
    assert purse.reserve(1, 1) is None


def test_the_account_by_hand(opened: Open) -> None:
    ledger = opened()
    purse = ledger.purse(model())
    for state, tokens in (("answered", 100), ("answered", 50), ("lost", 30), ("wrong", 20), ("unpaid", 0)):
        purse.settle(purse.reserve(200, 2) or 0, state, tokens)  # type: ignore[arg-type]
    purse.reserve(200, 2)
    assert ledger.account(model()) == Account(requests=6, lost=3, lost_usd=pytest.approx((30 + 20 + 200) / 1e6))
    assert ledger.account(model("other")) == Account()
    assert Ledger(ledger.store, "other data").account(model()) == Account()


def test_what_left_within_a_minute_is_known_to_the_next_process(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("harness.ledger.time.time", lambda: now)
    purse = opened("one").purse(model())
    for tokens in (10, 20, 30):
        purse.settle(purse.reserve(99, tokens) or 0, "answered", tokens)
        now += 25.0
    assert opened("two").purse(model()).recent(60.5) == [(50.0, 20, 20), (25.0, 30, 30)]
    assert opened("two").purse(model("other")).recent(60.5) == []


def test_vectors_and_their_price_are_committed_together_or_not_at_all(opened: Open) -> None:
    ledger = opened(budget=1.0)
    purse, wanted = ledger.purse(model()), keys(model(), "document", [Item("a")])
    ticket = purse.reserve(100, 1) or 0
    embedded = Embedded(np.ones((1, 2), dtype=np.float32), np.array([5]))

    def settle_and_fail() -> None:
        purse.settle(ticket, "answered", 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.store.add(wanted, embedded, 1.0, model(), settle_and_fail)
    assert ledger.store.missing(wanted) == [0]
    assert ledger.spent() == pytest.approx(100 / 1e6)  # still at most: the answer may have been paid for
    ledger.store.add(wanted, embedded, 1.0, model(), lambda: purse.settle(ticket, "answered", 5))
    assert ledger.store.missing(wanted) == []
    assert ledger.spent() == pytest.approx(5 / 1e6)
