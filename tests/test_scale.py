from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from boards import COST, cell
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import OptionError
from harness.result import Cost
from harness.scale import DAYS, Bill, Needs, bill, broken, on_front

FACTS = {"documents": 100}
FOUR = [0.5] * 4  # four queries
PRICED = {"usd_per_million_tokens": 2.0}
MODEL_COST = replace(COST, bytes=25_600, document_tokens=50_000, query_tokens=400, document_seconds=36.0, scan_seconds_per_gb=78.125)


def a_bill(p95_ms: float | None = 10.0, size: float | None = 1e6, month: float | None = 0.0) -> Bill:
    return Bill(documents=100, bytes=size, p95_ms=p95_ms, embed_usd=0.0, embed_hours=1.0, month_usd=month)


def test_a_bill_at_ten_times_the_documents_by_hand() -> None:
    needs = Needs(documents=1_000, queries_per_day=1_000, usd_per_gb_month=1_000)
    found = bill(cell("m/a", FOUR, cost=MODEL_COST, **PRICED), FACTS, needs)
    assert found.documents == 1_000
    assert found.bytes == pytest.approx(256_000)
    assert found.p95_ms == pytest.approx(10 + 2 + 18)  # 230,400 bytes more to scan, at 78.125 seconds a GB
    assert found.embed_hours == pytest.approx(0.1)
    assert found.embed_usd == pytest.approx(1.0)  # 500,000 tokens at 2 USD a million
    queries, memory = 1_000 * 30.4375 * 100 * 2e-6, 0.256  # 100 tokens a query; 256 kB at 1,000 USD a GB
    assert found.month_usd == pytest.approx(queries + memory)
    assert found.year_usd == pytest.approx(1 + 12 * (queries + memory))


def test_without_a_number_of_documents_the_bill_is_for_those_measured() -> None:
    found = bill(cell("m/a", FOUR, cost=MODEL_COST, **PRICED), FACTS, Needs())
    assert (found.documents, found.bytes, found.month_usd) == (100, 25_600, 0.0)
    assert found.p95_ms == pytest.approx(12)


@pytest.mark.parametrize(
    ("unmeasured", "price", "unknown"),
    [
        ({"document_tokens": None}, 2.0, {"embed_usd", "year_usd"}),
        ({"query_tokens": None}, 2.0, {"month_usd", "year_usd"}),
        ({"document_tokens": None, "query_tokens": None}, 0.0, set()),  # what has no price costs nothing, whatever its tokens
        ({"bytes": None}, 0.0, {"bytes", "p95_ms", "month_usd", "year_usd"}),
        ({"alone_embed_p95": None}, 0.0, {"p95_ms"}),
        ({"alone_search_p95": None}, 0.0, {"p95_ms"}),
        ({"document_seconds": None}, 0.0, {"embed_hours"}),
        ({"scan_seconds_per_gb": None}, 0.0, set()),  # nothing more is scanned than was
    ],
)
def test_what_rests_on_something_unmeasured_is_none(unmeasured: dict[str, None], price: float, unknown: set[str]) -> None:
    result = cell("m/a", FOUR, cost=replace(MODEL_COST, **unmeasured), usd_per_million_tokens=price)
    found = bill(result, FACTS, Needs(usd_per_gb_month=1.0))
    names = ("bytes", "p95_ms", "embed_usd", "embed_hours", "month_usd", "year_usd")
    assert {name for name in names if getattr(found, name) is None} == unknown


def test_a_latency_at_another_scale_rests_on_how_fast_the_machine_scans() -> None:
    unknown = cell("m/a", FOUR, cost=replace(MODEL_COST, scan_seconds_per_gb=None))
    assert bill(unknown, FACTS, Needs(documents=100)).p95_ms == pytest.approx(12)
    assert bill(unknown, FACTS, Needs(documents=101)).p95_ms is None
    smaller = bill(cell("m/a", FOUR, cost=replace(MODEL_COST, scan_seconds_per_gb=1e6)), FACTS, Needs(documents=1))
    assert smaller.p95_ms == pytest.approx(10)  # a search never takes less than nothing


@given(times=st.integers(1, 1_000_000), queries=st.floats(0, 1e6))
def test_documents_scale_what_they_cost_and_queries_only_the_month(times: int, queries: float) -> None:
    result = cell("m/a", FOUR, cost=MODEL_COST, **PRICED)
    one = bill(result, FACTS, Needs(queries_per_day=queries))
    many = bill(result, FACTS, Needs(queries_per_day=queries, documents=100 * times))
    for name in ("bytes", "embed_usd", "embed_hours"):
        assert getattr(many, name) == pytest.approx(times * getattr(one, name))
    assert many.month_usd == one.month_usd == pytest.approx(queries * DAYS * 100 * 2e-6)
    assert many.p95_ms == pytest.approx(one.p95_ms + (times - 1) * 2)


@pytest.mark.parametrize("name", ["documents", "max_p95_ms", "max_ram_gb", "max_usd_per_month", "queries_per_day", "usd_per_gb_month"])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_a_need_is_a_number_from_0_up(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=f"{name} = {value} is not a number from 0 up"):
        Needs(**{name: value})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"documents": 0}, "documents = 0: there must be at least one"),
        ({"give_up": 1}, "give_up = 1 is not a share from 0 up to 1, as in 0.02"),
        ({"give_up": -0.1}, "give_up = -0.1 is not a share"),
        ({"give_up": math.nan}, "give_up = nan is not a share"),
    ],
)
def test_needs_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Needs(**wrong)


def test_constraints_are_those_that_were_set_and_nothing_is_a_limit_too() -> None:
    assert Needs(documents=10, queries_per_day=5, usd_per_gb_month=1).constraints() == {}
    assert Needs(max_usd_per_month=0, commercial=True).constraints() == {"max_usd_per_month": 0, "commercial": True}
    everything = Needs(max_p95_ms=1, max_ram_gb=2, max_usd_per_month=3, commercial=True, local=True)
    assert list(everything.constraints()) == ["max_p95_ms", "max_ram_gb", "max_usd_per_month", "commercial", "local"]


@given(st.integers(1, 4_000))
def test_a_limit_that_is_just_reached_is_kept(limit: int) -> None:
    needs = Needs(max_p95_ms=limit, max_ram_gb=limit, max_usd_per_month=limit, commercial=True, local=True)
    assert broken(cell("m/a", FOUR), a_bill(float(limit), limit * 1e9, float(limit)), needs) == {}


def test_each_constraint_that_is_not_kept_says_why() -> None:
    needs = Needs(max_p95_ms=20, max_ram_gb=0.5, max_usd_per_month=3, commercial=True, local=True)
    result = cell("m/a", FOUR, licence="cc-by-nc-4.0", local=False)
    assert broken(result, a_bill(23.44, 2e9, 3.5), needs) == {
        "max_p95_ms": "p95 23.4 ms",
        "max_ram_gb": "index 2 GB",
        "max_usd_per_month": "3.50 USD a month",
        "commercial": "licence cc-by-nc-4.0 is not known to allow commercial use",
        "local": "runs at a provider",
    }
    assert broken(result, a_bill(23.44, 2e9, 3.5), Needs()) == {}


def test_what_was_not_measured_cannot_be_shown_to_keep_a_limit() -> None:
    needs = Needs(max_p95_ms=1e9, max_ram_gb=1e9, max_usd_per_month=1e9)
    assert broken(cell("m/a", FOUR), a_bill(None, None, None), needs) == {
        "max_p95_ms": "latency was not measured",
        "max_ram_gb": "size was not measured",
        "max_usd_per_month": "price was not measured",
    }


@pytest.mark.parametrize(
    ("licence", "why"),
    [
        ("MIT", None),
        ("Apache-2.0", None),
        ("", "licence unknown"),
        ("gemma", "licence gemma is not known to allow commercial use"),
    ],
)
def test_commercial_use_needs_a_licence_known_to_allow_it(licence: str, why: str | None) -> None:
    assert broken(cell("m/a", FOUR, licence=licence), a_bill(), Needs(commercial=True)).get("commercial") == why


def test_the_front_of_five_points_by_hand() -> None:
    points = {
        "best": (0.90, a_bill(50, 8e6, 20)),
        "fast": (0.80, a_bill(5, 8e6, 20)),
        "beaten by fast": (0.79, a_bill(6, 8e6, 20)),
        "small and free": (0.60, a_bill(50, 1e6, 0)),
        "as small, dearer and worse": (0.50, a_bill(50, 1e6, 1)),
    }
    found = on_front([mean for mean, _ in points.values()], [one for _, one in points.values()])
    assert dict(zip(points, found, strict=True)) == {
        "best": True,
        "fast": True,
        "beaten by fast": False,
        "small and free": True,
        "as small, dearer and worse": False,
    }


def test_equals_share_the_front_and_what_was_not_measured_is_the_worst() -> None:
    assert on_front([0.5, 0.5], [a_bill(), a_bill()]) == [True, True]
    assert on_front([0.5, 0.5], [a_bill(), a_bill(p95_ms=None)]) == [True, False]
    assert on_front([0.5, 0.5], [a_bill(size=None), a_bill(month=None)]) == [True, True]


def test_latencies_that_agree_in_two_digits_are_equal_on_the_front() -> None:
    assert on_front([0.6, 0.5], [a_bill(p95_ms=10.04), a_bill(p95_ms=9.97)]) == [True, False]
    assert on_front([0.6, 0.5], [a_bill(p95_ms=10.04), a_bill(p95_ms=9.4)]) == [True, True]


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=12))
def test_the_front_is_what_nothing_else_beats(points: list[tuple[int, int, int, int]]) -> None:
    bills = [a_bill(float(p95), float(size), float(month)) for _, p95, size, month in points]
    found = on_front([float(mean) for mean, *_ in points], bills)
    worse = [(-mean, p95, size, month) for mean, p95, size, month in points]
    expected = [not any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in worse) for one in worse]
    assert found == expected
    assert any(found)


def test_a_floor_without_any_cost_has_an_empty_bill_and_no_price() -> None:
    found = bill(cell("bm25", FOUR, cost=Cost()), FACTS, Needs())
    assert (found.bytes, found.p95_ms, found.embed_hours, found.embed_usd) == (None, None, None, 0.0)


def test_a_system_without_vectors_costs_nothing_a_month_where_memory_is_free() -> None:
    unmeasured = cell("m/a", [0.5], cost=Cost())
    assert bill(unmeasured, {"documents": 10}, Needs()).month_usd == 0.0
    assert bill(unmeasured, {"documents": 10}, Needs(usd_per_gb_month=1)).month_usd is None
