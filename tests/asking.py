"""A model behind an API that asks a FaultServer, and what comes of measuring it: shared by the tests of the API layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apis import APIS
from conftest import make_dataset
from fault_server import Fault, FaultServer, Seen

import harness
from harness import catalog
from harness.dataset import Dataset
from harness.dispatch import Patience, Remote
from harness.result import Cost, Leaderboard, Result

Script = Callable[[Seen], Fault | None]
Numbers = tuple[dict[str, list[float]], list[list[str]]]
DATA = make_dataset(documents=12, queries=4)
FAST = "requests_per_minute=1000000&tokens_per_minute=1000000000&items_per_minute=1000000"


def spec(server: FaultServer, name: str, options: str = "", model: str = "") -> str:
    """What a user would write to have the model of an API asked there; ``options`` overrule what is usual here."""
    usual = f"base_url={server.url(name)}&dimensions=32&request_items=4&in_flight=3&timeout=30&{FAST}"
    said = {part.partition("=")[0]: part for part in f"{usual}&{options}".split("&") if part.partition("=")[2]}
    start = model or APIS[name].spec
    return f"{start}{'&' if '?' in start else '?'}{'&'.join(said.values())}"


def remote(server: FaultServer, name: str, options: str = "", model: str = "", **patience: Any) -> Remote:
    """The same, loaded, with pauses of milliseconds."""
    found = catalog.load(spec(server, name, options, model))
    assert isinstance(found, Remote)
    found.patience = Patience(first=0.001, most=0.01, **patience)
    return found


def measure(model: Remote, store: Path, data: Dataset = DATA, **more: Any) -> Leaderboard:
    return harness.evaluate(data, [model], dims=["native"], floors=False, store_folder=store, threads=1, **more)


def numbers(board: Leaderboard) -> Numbers:
    """Scores of each query by measure, and the ranking of each query."""
    assert not board.absences, board.absences
    result: Result = board.results[0]
    return {name: scores.tolist() for name, scores in result.scores.items()}, [list(ids) for ids in result.documents]


def cost(board: Leaderboard) -> Cost:
    assert not board.absences, board.absences
    return board.results[0].cost


def reason(board: Leaderboard) -> str:
    """Why the one model failed."""
    assert not board.results
    assert [absence.status for absence in board.absences] == ["failed"]
    return board.absences[0].reason


def at(*places: int, fault: Fault) -> Script:
    """The fault at these requests."""
    return lambda seen: fault if seen.number in places else None


def always(fault: Fault) -> Script:
    return lambda _seen: fault
