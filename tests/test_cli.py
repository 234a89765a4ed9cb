from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from conftest import write_beir

from harness import runner
from harness.cli import main
from harness.dataset import Dataset


def bakeoff(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def corpus(tiny: Dataset, tmp_path: Path) -> Path:
    return write_beir(tiny, tmp_path / "mycorpus")


def test_eval_writes_everything_and_shows_the_table(corpus: Path, tmp_path: Path) -> None:
    done = bakeoff("eval", corpus, "-m", "hash/64", "--dims", "64,32", "--metric", "mrr@5", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("results", "summary.json", "evidence.json", "leaderboard.csv", "choosing.md", "leaderboard.html"),
    }
    assert "hash/64" in done.stdout
    assert "mrr@5" in done.stdout
    assert "hash/64 documents: 60 of 60" in done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["model"], row["dim"]) for row in rows if row["model"] == "hash/64"] == [("hash/64", "64"), ("hash/64", "32")]
    choosing = (tmp_path / "out" / "choosing.md").read_text()
    assert "| Overall | hash/64 @ " in choosing
    assert "can be the best" in choosing or "tied for best" in choosing


def test_quiet_says_nothing_on_the_way(corpus: Path, tmp_path: Path) -> None:
    done = bakeoff("eval", corpus, "-m", "hash/64", "--out", tmp_path / "out", "-q")
    assert done.stderr == ""


def test_a_failed_model_gives_exit_code_1_and_a_reason(corpus: Path, tmp_path: Path) -> None:
    done = bakeoff("eval", corpus, "-m", "hash/64", "-m", "st/no/such", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "failed: st/no/such: 'no/such' is neither in the local cache nor to be had from the hub" in done.stdout
    assert "st/no/such" in (tmp_path / "out" / "choosing.md").read_text()
    assert "st/no/such" in (tmp_path / "out" / "leaderboard.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "no-such-corpus"], "no such folder, nor a shipped dataset"),
        (["eval", "quikstart"], "did you mean 'quickstart'"),
        (["eval", "quickstart", "--metric", "ndgc@10"], "did you mean 'ndcg'"),
        (["eval", "quickstart", "--metric", "mrr@5,ndcg"], "needs a cut-off between 1 and 999999, as in ndcg@10"),
        (["eval", "quickstart", "-m", "wordlama/256"], "did you mean 'wordllama'"),
        (["eval", "quickstart", "-m", "hash/64", "-m", "hash/three"], "hash/three: dim 'three' of hash/<dim> is not a whole number"),
        (["eval", "quickstart", "-m", "hash/64", "--out", "/dev/null"], "results cannot be written there"),
        (["eval", "quickstart", "--dims", "0"], "dim '0' is not a whole number of 1 or more"),
        (["eval", "quickstart", "--split", "train"], "the splits there are: test"),
        (["eval", "quickstart", "--give-up", "nan"], "give_up = nan is not a share"),
        (["--config", "none.toml", "datasets"], "none.toml: cannot be read"),
        (["show", "no-such-folder"], "no such file; bakeoff eval makes"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(words: list[str], message: str) -> None:
    done = bakeoff(*words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_wrong_input_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "corpus.jsonl").write_text("{broken")
    (tmp_path / "bad" / "queries.jsonl").write_text("{broken")
    before = sorted(tmp_path.rglob("*"))
    done = bakeoff("eval", "bad")
    assert done.exit_code == 2
    assert "corpus.jsonl:1: not valid JSON" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_show_prints_the_table_again_and_measures_nothing(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bakeoff("eval", corpus, "-m", "hash/64", "--out", tmp_path / "out", "-q")
    page = (tmp_path / "out" / "leaderboard.html").read_bytes()
    (tmp_path / "out" / "leaderboard.html").unlink()
    monkeypatch.setattr(runner, "evaluate", None)
    done = bakeoff("show", tmp_path / "out")
    assert done.exit_code == 0
    assert "hash/64" in done.stdout
    assert (tmp_path / "out" / "leaderboard.html").read_bytes() == page  # and the page is the same to the byte


def test_show_remembers_what_was_asked_and_writes_what_it_shows(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def state() -> tuple[dict[str, Any], str, str]:
        verdict = json.loads((out / "summary.json").read_text())["verdict"]
        return verdict["needs"], verdict["choosing"][0]["reason"], (out / "choosing.md").read_text()

    bakeoff("eval", corpus, "-m", "hash/64", "--dims", "64", "--out", out, "-q", "--max-ram-gb", "1e-9", "--commercial")
    asked, said, text = state()
    assert "nothing measured keeps the constraints" in said
    summary = (out / "summary.json").read_bytes()
    assert bakeoff("show", out).exit_code == 0
    assert state() == (asked, said, text)
    assert (out / "summary.json").read_bytes() == summary
    assert bakeoff("show", out, "--max-ram-gb", "1", "--no-commercial").exit_code == 0
    now, said, text = state()
    assert now == asked | {"max_ram_gb": 1, "commercial": False}
    assert said.startswith("the only one to choose from")
    assert "max_ram_gb = 1 excludes 0 of 1 cells." in text
    bakeoff("show", out, "--forget")
    assert state()[0] == asked | {"max_ram_gb": None, "commercial": False}


def test_show_knows_the_measures_of_the_last_run_and_no_older_ones(corpus: Path, tmp_path: Path) -> None:
    for metric in ("ndcg@10,recall@5", "mrr@10"):
        bakeoff("eval", corpus, "-m", "hash/64", "--metric", metric, "--out", tmp_path / "out", "-q")
    before = (tmp_path / "out" / "summary.json").read_bytes()
    bakeoff("show", tmp_path / "out")
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert b"recall@5" not in before


def test_needs_of_another_version_are_an_error_that_names_the_way_out(corpus: Path, tmp_path: Path) -> None:
    bakeoff("eval", corpus, "-m", "hash/64", "--out", tmp_path / "out", "-q")
    path = tmp_path / "out" / "summary.json"
    path.write_text(path.read_text().replace('"max_ram_gb"', '"max_acres"'))
    done = bakeoff("show", tmp_path / "out")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "max_acres is none of the needs that this bakeoff knows" in done.stderr
    assert bakeoff("show", tmp_path / "out", "--forget").exit_code == 0


def test_diff_holds_the_new_cell_against_the_needs(corpus: Path, tmp_path: Path) -> None:
    bakeoff("eval", corpus, "-m", "hash/64", "--dims", "64,32", "--out", tmp_path / "out", "-q")
    written = tmp_path / "diff.md"
    done = bakeoff("diff", "hash/64 @ 64", "hash/64 @ 32", "--in", tmp_path / "out", "--max-ram-gb", "0", "--local", "--markdown", written)
    assert done.exit_code == 0, done.output
    for text in (" ".join(done.stdout.split()), written.read_text()):
        assert "hash/64 @ 32 keeps local, but not max_ram_gb = 0 (index 7.68e-06 GB)." in text


def test_a_dataset_named_like_a_path_stays_inside_out(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_beir(tiny, tmp_path / "work" / "c")
    (folder / "dataset.toml").write_text('name = "../../outside"\n')
    monkeypatch.chdir(tmp_path / "work")
    assert bakeoff("eval", folder, "-m", "hash/32", "-q").exit_code == 0
    assert not (tmp_path / "outside").exists()
    assert [p.name for p in (tmp_path / "work" / "out").iterdir()] == ["outside"]


def test_lists() -> None:
    assert "quickstart: " in bakeoff("datasets").stdout
    listed = bakeoff("models").stdout
    assert "\nbm25: the lexical floor" in listed
    assert "packaged/all-MiniLM-L6-v2: real weights" in listed
    assert "wordllama/256" in listed


def test_ctrl_c_is_one_line_and_exit_code_130(corpus: Path, tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "sitecustomize.py").write_text(
        f"import harness.runner as r\ndef evaluate(*a, **k):\n    {code}\n    for _ in iter(int, 1): pass\nr.evaluate = evaluate\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "harness", "eval", str(corpus), "-m", "hash/32"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent.parent, check=False, timeout=60
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr == "bakeoff: stopped; what was finished is kept, the same command goes on from there\n"


def commands_of_make(*words: str) -> list[str]:
    """What make would run of ours."""
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "DATA", "MODELS", "BASELINE")  # of `make test`, which may be running this
    clean = {name: value for name, value in os.environ.items() if name not in outer}
    command = ["make", "--dry-run", *words, "ARGS="]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent, env=clean)
    return [" ".join(line.split()) for line in done.stdout.splitlines() if line.startswith(".venv/bin/bakeoff")]


def test_make_passes_only_what_was_given() -> None:
    assert commands_of_make("eval") == [".venv/bin/bakeoff eval"]
    assert commands_of_make("eval", "DATA=some folder", "MODELS=bm25") == ['.venv/bin/bakeoff eval "some folder" --model "bm25"']
    assert commands_of_make("check-regression")[1] == ".venv/bin/bakeoff check out/check-regression"


def test_make_check_regression_checks_the_very_run_it_made() -> None:
    """It must not guess the folder from DATA: dataset.toml names it, and an older run there would be checked instead."""
    assert commands_of_make("check-regression", "DATA=some folder", "MODELS=hash/32 bm25", "BASELINE=b.json") == [
        '.venv/bin/bakeoff eval "some folder" --model "hash/32" --model "bm25" --out out/check-regression',
        '.venv/bin/bakeoff check out/check-regression --baseline "b.json"',
    ]


@pytest.mark.parametrize("module", ["harness", "harness.cli"])
def test_neither_module_does_nothing_when_it_is_run(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: bakeoff [OPTIONS] COMMAND")
