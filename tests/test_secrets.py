"""Keys never show: not in what is printed, not in a traceback, not in anything that is written, whatever a server answers."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from apis import APIS
from asking import DATA, reason, remote, spec
from click.testing import CliRunner
from conftest import write_beir
from fault_server import Fault, FaultServer, Seen

import harness
import reports
from harness import verdict
from harness.cli import main

pytest_plugins = ("api_fixtures",)
pytestmark = pytest.mark.usefixtures("with_keys")
MARK = "zq-marker"
"""How every key here begins; so that half a key is found too, this is what is looked for."""
ANSWERED = ("openai", "cohere", "voyage", "gemini")  # one of each way to speak
NAMES = sorted({key for api in APIS.values() for key in api.keys})
Answer = Callable[[str], Fault | None]
ANSWERS: dict[str, Answer] = {  # what a server makes of the key that it was sent
    "an answer": lambda _key: None,
    "401": lambda key: Fault(status=401, message=f"Incorrect API key provided: {key}. You can find your key elsewhere."),
    "403 in HTML": lambda key: Fault(status=403, garble=lambda _: f"<p>{key} may not</p>".encode(), content_type="text/html"),
    "404": lambda key: Fault(status=404, message=f"no model for {key}"),
    "400": lambda key: Fault(status=400, message=f"bad request of {key}"),
    "429": lambda key: Fault(status=429, message=f"{key} asks too much"),
    "500": lambda key: Fault(status=500, message=f"Traceback of the server: headers = {{'authorization': 'Bearer {key}'}}"),
    "500, cut in the middle of the key": lambda key: Fault(status=500, message=f"{'wordy ' * 48} {key}"),
    "a redirect": lambda key: Fault(status=307, headers={"Location": f"https://elsewhere.example/v1?key={key}"}),
    "another shape": lambda key: Fault(garble=lambda _: f'{{"{key}": "{key}"}}'.encode()),
    "not JSON": lambda key: Fault(garble=lambda _: f"<html>{key}</html>".encode(), content_type="text/html"),
    "a list": lambda key: Fault(garble=lambda _: f'["{key}"]'.encode()),
    "a key among the vectors": lambda key: Fault(garble=lambda body: body.replace(b"[", f'["{key}", '.encode(), 1)),
    "reset": lambda _key: Fault(breaks="reset"),
}


@pytest.fixture
def keys(with_keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, name in enumerate(NAMES):
        monkeypatch.setenv(name, f"{MARK}-{at}-of-{name.lower()}")


def answering(answer: Answer) -> Callable[[Seen], Fault | None]:
    def script(seen: Seen) -> Fault | None:
        header, start = APIS[seen.api].header
        key = seen.headers[header].removeprefix(start)
        assert key.startswith(MARK), "the key did not arrive, so nothing is tested"
        return answer(key)

    return script


def written(*folders: Path) -> dict[str, bytes]:
    """Everything below some folders, the names of files included."""
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def assert_nothing_shows(said: str, *folders: Path) -> None:
    assert MARK not in said
    found = written(*folders)
    assert found
    assert not [path for path, content in found.items() if MARK in path or MARK.encode() in content]


@pytest.mark.usefixtures("keys")
def test_no_key_shows_whatever_servers_answer(in_memory: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as running:
        servers = [running.enter_context(FaultServer(answering(answer))) for answer in ANSWERS.values()]
        models = [remote(server, name, attempts=2) for server in servers for name in APIS]
        board = harness.evaluate(DATA, models, dims=["native"], floors=False, store_folder=in_memory, out=tmp_path / "out")
        assert all({seen.api for seen in server.seen} == set(APIS) for server in servers)
    assert len(board.results) == len(APIS)
    assert len(board.absences) == len(APIS) * (len(ANSWERS) - 1)
    assert not [absence for absence in board.absences if MARK in absence.reason]
    chosen = verdict.choose(board)
    reports.write(board, tmp_path / "out", chosen)
    said = capfd.readouterr()
    assert_nothing_shows(f"{said.out}{said.err}{board.absences}{board.results}{chosen}{models}", in_memory, tmp_path)


@pytest.mark.usefixtures("keys")
def test_no_key_shows_on_the_command_line(in_memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every provider, with an answer and with errors that are final, as a user runs them, with every log that SDKs have."""
    corpus = write_beir(DATA, tmp_path / "in" / "corpus")
    for log in ("OPENAI_LOG", "VOYAGE_LOG"):
        monkeypatch.setenv(log, "debug")
    with (
        FaultServer(answering(ANSWERS["an answer"])) as good,
        FaultServer(answering(ANSWERS["401"])) as refusing,
        FaultServer(answering(ANSWERS["400"])) as picky,
        FaultServer(answering(ANSWERS["a redirect"])) as leading,
    ):
        specs = [spec(server, name) for server in (refusing, picky, leading) for name in APIS] + [spec(good, name) for name in ANSWERED]
        words = ["--debug", "eval", corpus, *(part for one in specs for part in ("-m", one)), "--dims", "native"]
        words += ["--out", tmp_path / "out", "--store", in_memory]
        done = subprocess.run(
            [sys.executable, "-m", "harness", *map(str, words)], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 1, done.stderr
        assert all({seen.api for seen in server.seen} == set(APIS) for server in (refusing, picky, leading))
        assert {seen.api for seen in good.seen} == set(ANSWERED)
    assert "the key was not accepted" in done.stdout + done.stderr
    assert_nothing_shows(done.stdout + done.stderr, in_memory, tmp_path)


@pytest.mark.parametrize("name", APIS)
def test_a_key_from_a_file_is_used_and_does_not_show_either(
    name: str, in_memory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for variable in NAMES:
        monkeypatch.delenv(variable)
    (in_memory / ".env").write_text("".join(f"{variable}={MARK}-from-{variable}\n" for variable in NAMES))
    monkeypatch.chdir(in_memory)
    with FaultServer(answering(ANSWERS["401"])) as server:
        found = reason(measure_into(in_memory / "out", remote(server, name)))
    assert found.startswith(f"401: {'code_401 ' if 'code_401' in found else ''}Incorrect API key provided: [{APIS[name].keys[0]}]. You")
    said = capfd.readouterr()
    assert_nothing_shows(f"{said.out}{said.err}{found}", in_memory / "out", in_memory / "out-store")


def measure_into(out: Path, model: object) -> harness.Leaderboard:
    store = out.with_name(f"{out.name}-store")
    return harness.evaluate(DATA, [model], dims=["native"], floors=False, store_folder=store, out=out)  # type: ignore[list-item]


@pytest.mark.parametrize("value", [f"{MARK}\n-in-two-lines", f"{MARK}-with-a-dash-–", f"{MARK} and words", f"{MARK}\x1b[31m"])
@pytest.mark.parametrize("name", APIS)
def test_what_cannot_be_a_key_is_not_sent_and_does_not_show(
    name: str, value: str, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in NAMES:
        monkeypatch.setenv(variable, value)
    with FaultServer() as server:
        found = reason(measure_into(in_memory / "out", remote(server, name)))
    assert f"what {APIS[name].keys[0]} holds cannot be a key" in found
    assert not server.connections
    assert_nothing_shows(found, in_memory)


@pytest.mark.parametrize("name", sorted(set(APIS) - {"openai-compatible"}))
def test_without_a_key_its_name_is_told_and_nothing_is_sent(name: str, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in NAMES:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(in_memory)
    with FaultServer() as server:
        found = reason(measure_into(in_memory / "out", remote(server, name)))
    assert found == f"no key: set {' or '.join(APIS[name].keys)} in the environment, or in a file .env in this folder"
    assert not server.connections


@pytest.mark.parametrize(
    "words",
    [
        f"openai/text-embedding-3-small?api_key={MARK}",
        f"openai/text-embedding-3-small?dimensions=64&key={MARK}&timeout=3",
        f"voyage/voyage-4?VOYAGE_API_KEY={MARK}",
        f"nosuch/model?api_key={MARK}",
        f"st/org/name?token={MARK}",
        f"hash/64?api_key={MARK}",
        *(f"{api.spec.partition('?')[0]}?dim=64&base_url=https://user:{MARK}@host.example/v1" for api in APIS.values()),
        f"openai/text-embedding-3-small?base_url=https://{MARK}@host.example/v1",
        f"openai/text-embedding-3-small?base_url=https://user:a/{MARK}@host.example/v1",
        f"openai/text-embedding-3-small?base_url=https://user/{MARK}@host.example/v1",
        f"openai/text-embedding-3-small?base_url=https%3A%2F%2Fuser%3A{MARK}%40host.example",
        f"openai/text-embedding-3-small?base_url=user:{MARK}@host.example",
        f"openai/text-embedding-3-small?base_url=https://host.example/v1?key={MARK}",
        f"openai/text-embedding-3-small?base_url=https://host.example/v1?a=b&key={MARK}",
        f"openai/text-embedding-3-small?base_url=https://host.example/v1%3Fkey={MARK}",
        f"openai/text-embedding-3-small?base_url=https://host.example/v1%23{MARK}",
        f"openai/text-embedding-3-small?base_url=https://host.example/v1#{MARK}",
        f"voyage/voyage-4?base_url=https://user:{MARK}@host.example+voyage/voyage-4-lite",
        f"voyage/voyage-4?base_url=https://user:{MARK}@host.example+openai/text-embedding-3-small",
        f"openai/text-embedding-3-small+voyage/voyage-4?base_url=https://host.example?key={MARK}",
    ],
)
@pytest.mark.parametrize("command", ["eval", "plan"])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(words: str, command: str, in_memory: Path) -> None:
    corpus = write_beir(DATA, in_memory / "corpus")
    for options in (["--debug"], []):
        done = CliRunner().invoke(main, [*options, command, str(corpus), "-m", words, "--store", str(in_memory / "store")])
        assert done.exit_code == (1 if options else 2)
        trace = "".join(traceback.format_exception(done.exception)) if done.exception else ""
        assert MARK not in done.output + trace
        assert MARK not in str(list(in_memory.rglob("*")))
    assert "bakeoff: " in done.output
