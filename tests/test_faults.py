"""Every provider through every fault: the same numbers as without faults, or an error that names what is wrong; nothing paid twice."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from apis import APIS
from asking import Numbers, Script, always, at, cost, measure, numbers, reason, remote
from conftest import make_dataset
from fault_server import BUSY, HANG, LOST, MENDED, NUMBERING, WRONG, Fault, FaultServer, Seen

from harness import catalog

pytest_plugins = ("api_fixtures",)
pytestmark = pytest.mark.usefixtures("with_keys")
PASSING = BUSY | LOST | WRONG | NUMBERING | MENDED
CASES = [(api, what) for api in APIS for what in PASSING if APIS[api].indexed or what not in NUMBERING | MENDED]
FINAL: dict[str, tuple[Fault, int, str]] = {  # the fault of every reply, how many requests it takes to believe it, and what is said then
    "no such key": (Fault(status=401), 1, r"401: .*made to fail.*\(the key was not accepted: .*\?\)"),
    "no credit": (Fault(status=402), 1, r"402: .*\(the account has no credit: .*\)"),
    "not allowed": (Fault(status=403), 1, r"403: .*\(the key may not use this model: .*\)"),
    "no such model": (Fault(status=404), 1, r"404: .*\(there is no such model or address: .*\?\)"),
    "no quota": (Fault(status=429, message="insufficient_quota: see your plan"), 1, r"429: .*\(the account has no credit: .*\)"),
    "a wait of hours": (Fault(status=429, headers={"Retry-After": "7200"}), 1, r"asks to wait 120 minutes: 429: .*is kept"),
    "busy for ever": (Fault(status=503), 4, r"gave up on document 'd\d+' and 3 more after 4 attempts; the last: 503: .*is kept"),
    "reset for ever": (Fault(breaks="reset"), 4, r"gave up on .* after 4 attempts; the last: the reply was lost: .*is kept"),
    "garbage for ever": (LOST["HTML"], 4, r"gave up on .* after 4 attempts; the last: the reply cannot be read: .*is kept"),
    "NaN for ever": (WRONG["NaN"], 3, r"gave up on .* after \d attempts; the last: .*(NaN|cannot be read).*is kept"),
    "refused": (
        Fault(status=400),
        6,
        r"refuses document 'd\d+', 'd\d+', 'd\d+': 400: .*made to fail; it has accepted nothing yet: are the model's name",
    ),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Numbers]:
    """The numbers of a provider when nothing goes wrong."""
    known: dict[str, Numbers] = {}

    def ask(name: str) -> Numbers:
        if name not in known:
            with FaultServer() as server:
                known[name] = numbers(measure(remote(server, name), tmp_path_factory.mktemp("plain")))
                assert not server.asked_again()
                assert all(seen.whole for seen in server.seen)
        return known[name]

    return ask


@pytest.mark.parametrize(("name", "what"), CASES)
def test_a_fault_that_passes_changes_no_number(name: str, what: str, in_memory: Path, undisturbed: Callable[[str], Numbers]) -> None:
    with FaultServer(at(0, 2, fault=PASSING[what])) as server:
        board = measure(remote(server, name), in_memory)
    assert numbers(board) == undisturbed(name)
    assert not server.asked_again()
    spent = cost(board)
    assert spent.requests == len(server.seen)
    assert spent.lost_requests == (0 if what in BUSY or what in MENDED else 2)
    assert (spent.lost_usd > 0) == (spent.lost_requests > 0)
    assert spent.tokens == sum(seen.tokens for seen in server.seen if seen.whole)


@pytest.mark.parametrize("name", APIS)
def test_an_answer_that_never_comes_is_asked_for_again(name: str, in_memory: Path, undisturbed: Callable[[str], Numbers]) -> None:
    with FaultServer(at(0, fault=HANG)) as server:
        board = measure(remote(server, name, "timeout=0.5"), in_memory)
    assert numbers(board) == undisturbed(name)
    assert not server.asked_again()
    assert cost(board).lost_requests == 1


@pytest.mark.parametrize("what", FINAL)
@pytest.mark.parametrize("name", APIS)
def test_a_fault_that_stays_is_named_after_no_more_requests_than_it_takes(name: str, what: str, in_memory: Path) -> None:
    fault, requests, said = FINAL[what]
    with FaultServer(always(fault)) as server:
        found = reason(measure(remote(server, name, "in_flight=1", attempts=4), in_memory))
    assert re.search(said, found), found
    assert "\n" not in found
    as_garbage = what == "NaN for ever" and "cannot be read" in found  # JSON has no NaN
    assert len(server.seen) == (4 if as_garbage else requests)  # the SDKs' own retries would show here


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", APIS)
def test_nothing_follows_a_redirect(name: str, status: int, in_memory: Path) -> None:
    with FaultServer() as elsewhere:
        there = elsewhere.url(name)
        with FaultServer(always(Fault(status=status, headers={"Location": there}))) as server:
            found = reason(measure(remote(server, name), in_memory))
    assert found == f"{status}: sends us on to {there}, which is refused: keys and texts go to the named host only"
    assert len(server.seen) == 1
    assert elsewhere.connections == 0


@pytest.mark.parametrize("name", APIS)
def test_nobody_there_is_named_soon(name: str, in_memory: Path) -> None:
    with FaultServer() as server:
        model = remote(server, name)
    found = reason(measure(model, in_memory))
    assert re.match(r"cannot be reached: no connection: .*; is the address right, and the server up\?", found)


def _chance(seed: int, *, indexed: bool) -> Script:
    """Faults by the dice: of the seed, the text and how often it was asked for, so that the order of arrival does not matter."""
    kinds = [BUSY, LOST, WRONG, MENDED, NUMBERING] if indexed else [BUSY, LOST, WRONG]

    def script(seen: Seen) -> Fault | None:
        dice = random.Random(f"{seed} {seen.texts[0]} {seen.asked_before}")
        wrong_already = seen.asked_before >= 2  # a third answer that cannot be used would be the last
        kind = dice.choice([kind for kind in kinds if not (wrong_already and kind in (WRONG, NUMBERING))])
        return dice.choice(list(kind.values())) if dice.random() < 0.6 else None

    return script


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_of_faults_changes_no_number(seed: int, in_memory: Path) -> None:
    dice = random.Random(seed)
    name = dice.choice(list(APIS))
    data = make_dataset(documents=dice.randrange(5, 40), queries=dice.randrange(1, 9), seed=seed)
    options = f"request_items={dice.randrange(1, 9)}&in_flight={dice.randrange(1, 9)}"
    with FaultServer() as server:
        expected = numbers(measure(remote(server, name, options), in_memory / "plain", data))
    with FaultServer(_chance(seed, indexed=APIS[name].indexed)) as server:
        board = measure(remote(server, name, options, attempts=50), in_memory / "faults", data)
    assert numbers(board) == expected
    assert not server.asked_again()
    assert cost(board).requests == len(server.seen)
    assert cost(board).lost_requests == sum(seen.billed and not seen.whole for seen in server.seen)


def test_there_is_a_protocol_for_every_provider_behind_an_api() -> None:
    remotes = {provider for provider in catalog.providers() if catalog.package(provider) and catalog.keys(provider)}
    assert {api.spec.partition("/")[0] for api in APIS.values()} == remotes | {"openai-compatible"}
