from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from conftest import write_beir
from test_architecture import HEAVY, ROOT

import reports
from harness import config, console, result, runner, verdict
from harness.cli import main
from harness.dataset import Dataset
from harness.errors import OptionError
from harness.scale import Needs

Leaf = tuple[tuple[str, ...], click.Command]

SAMPLES: list[tuple[type, Any, Any, str, Any]] = [  # type of parameter; in the file, as it arrives; on the command line, likewise
    (config.Listed, [64, "native"], "64,native", "32", "32"),
    (config.Measures, "ndcg@7", "ndcg@7", "mrr@5", "mrr@5"),
    (click.types.BoolParamType, True, True, "", False),
    (click.types.IntParamType, 3, 3, "4", 4),
    (click.types.FloatParamType, 0.25, 0.25, "0.5", 0.5),
    (click.Choice, "float32", "float32", "auto", "auto"),
    (click.Path, "in/file", Path("in/file"), "on/line", Path("on/line")),
    (click.ParamType, "file", "file", "line", "line"),
]
LISTED: dict[str, tuple[Any, Any, str, Any]] = {
    "parse_precisions": (["float32", "int8"], "float32,int8", "binary", "float32,binary"),
    "parse_rescore": ([4, 2], "2,4", "10", "10"),
}


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[Leaf]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*words, name))
        else:
            yield (*words, name), command


PARAMETERS = [
    pytest.param(words, command, param, id=f"{'.'.join(words)}-{param.name}") for words, command in leaves(main) for param in command.params
]
NEEDY = [pytest.param(words, command, id=words[-1]) for words, command in leaves(main) if any(p.name == "give_up" for p in command.params)]


def sample(param: click.Parameter) -> tuple[Any, Any, str, Any]:
    _, written, arrives, word, other = next(row for row in SAMPLES if isinstance(param.type, row[0]))
    if isinstance(param.type, config.Listed) and param.type.read != "parse_dims":
        written, arrives, word, other = LISTED[param.type.read]
    return ([written], (arrives,), word, (other,)) if param.multiple else (written, arrives, word, other)


def call(words: tuple[str, ...], command: click.Command, file: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, Any]:
    """The parameters that arrive in a command with this file in force."""
    arrived: dict[str, Any] = {}
    monkeypatch.setattr(command, "callback", lambda **given: arrived.update(given))
    Path("bakeoff.toml").write_text(file)
    done = CliRunner().invoke(main, [*words, *more])
    assert done.exit_code == 0, done.output
    return arrived


def table(words: tuple[str, ...], values: dict[str, Any]) -> str:
    return f"[{'.'.join(words)}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def given(command: click.Command, param: click.Parameter) -> dict[str, Any]:
    """A value for a parameter, and for the arguments without which nothing runs."""
    return {one.name: sample(one)[0] for one in command.params if one is param or isinstance(one, click.Argument)}


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_tree_was_walked() -> None:
    assert {"eval", "show", "baseline.save", "check"} <= {".".join(words) for words, _ in leaves(main)}
    assert len(PARAMETERS) >= 38


@pytest.mark.parametrize(("words", "command", "param"), PARAMETERS)
def test_every_parameter_can_stand_in_the_file(
    words: tuple[str, ...], command: click.Command, param: click.Parameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(words, command, table(words, given(command, param)), monkeypatch)[param.name] == sample(param)[1]


@pytest.mark.parametrize(("words", "command", "param"), PARAMETERS)
def test_the_command_line_wins_over_the_file(
    words: tuple[str, ...], command: click.Command, param: click.Parameter, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, word, other = sample(param)
    if isinstance(param, click.Argument):
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        more = [sample(one)[2] for one in arguments[: arguments.index(param) + 1]]
    else:
        more = [param.opts[0], word] if word else [param.secondary_opts[0]]
    assert call(words, command, table(words, given(command, param)), monkeypatch, *more)[param.name] == other


def test_needs_have_an_option_for_every_field_and_arrive_as_one() -> None:
    seen: list[Needs] = []
    command = click.command()(config.with_needs(lambda *, needs: seen.append(needs)))
    assert {param.name for param in command.params} == {field.name for field in fields(Needs)}
    CliRunner().invoke(command, [])
    words = "--documents 9 --queries-per-day 8 --max-p95-ms 7 --max-ram-gb 6 --max-usd-per-month 5 --usd-per-gb-month 4 --give-up 0.3"
    CliRunner().invoke(command, [*words.split(), "--commercial", "--local"])
    limits = {"max_p95_ms": 7, "max_ram_gb": 6, "max_usd_per_month": 5}
    assert seen == [Needs(), Needs(documents=9, queries_per_day=8, usd_per_gb_month=4, give_up=0.3, commercial=True, local=True, **limits)]
    assert f"Default: {Needs().give_up}." in " ".join(CliRunner().invoke(command, ["--help"]).output.split())


@pytest.mark.parametrize(("words", "command"), NEEDY)
def test_needs_hold_for_every_command_that_has_them(
    words: tuple[str, ...], command: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {one.name: sample(one)[0] for one in command.params if isinstance(one, click.Argument)}
    needs = {param.name: sample(param)[0] for param in config._needs.params}
    arrived = call(words, command, table(("needs",), needs) + table(words, own | {"max_ram_gb": 7}), monkeypatch, "--max-p95-ms", "8")
    assert {name: arrived[name] for name in needs} == needs | {"max_ram_gb": 7, "max_p95_ms": 8}


def test_eval_and_show_pass_the_needs_on(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_beir(tiny, tmp_path / "mycorpus")
    seen: list[Needs] = []
    board = result.Leaderboard(dataset={"name": "x", "query_tags": {}}, headline="ndcg@10", results=())
    chosen = verdict.choose(board)
    monkeypatch.setattr(runner, "evaluate", lambda *_, needs, **__: seen.append(needs) or board)
    monkeypatch.setattr(result, "load", lambda _: replace(board, needs=asdict(Needs(max_p95_ms=9, max_ram_gb=8))))
    monkeypatch.setattr(result, "save", lambda *_: None)
    monkeypatch.setattr(reports, "write", lambda _, __, verdict: seen.append(verdict.needs) or {"leaderboard.html": "page"})
    monkeypatch.setattr(verdict, "choose", lambda _, needs: seen.append(needs) or replace(chosen, needs=needs))
    monkeypatch.setattr("reports.table.columns", lambda *_: ())
    monkeypatch.setattr(console, "show", lambda *_: None)
    Path("bakeoff.toml").write_text("[needs]\nmax_p95_ms = 50\n")
    assert invoke("eval", corpus, "--commercial").exit_code == 0
    assert seen == [Needs(max_p95_ms=50, commercial=True)] * 3
    seen.clear()
    assert invoke("show", "out").exit_code == 0
    assert seen == [Needs(max_p95_ms=50, max_ram_gb=8)] * 2  # the file wins over what the folder remembers
    seen.clear()
    assert invoke("show", "out", "--forget").exit_code == 0
    assert seen == [Needs(max_p95_ms=50)] * 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[evl]", "bakeoff.toml: unknown table 'evl'; known: eval, plan, check, diff, prompts, show, baseline"),
        ("[evl]", "needs, rule - did you mean 'eval'?"),
        ("[ned]", "did you mean 'needs'?"),
        ("[rules]", "did you mean 'rule'?"),
        ("[datasets]\nx = 1", "unknown table 'datasets'"),  # a command without options
        ('data = "mycorpus"', "bakeoff.toml: unknown key 'data'; known: eval, "),
        ("eval = 3", "bakeoff.toml: [eval] should be a table, not 3"),
        ("needs = 3", "bakeoff.toml: [needs] should be a table, not 3"),
        ('[eval]\nmodel = ["bm25"]', "bakeoff.toml: [eval] unknown key 'model'; known: data, models, "),
        ('[eval]\nmodel = ["bm25"]', "did you mean 'models'?"),
        ("[eval]\nmax-p95-ms = 5", "did you mean 'max_p95_ms'?"),
        ("[eval.more]", "bakeoff.toml: [eval] unknown table 'more'"),
        ("[baseline.sav]", "bakeoff.toml: [baseline] unknown table 'sav'; known: save - did you mean 'save'?"),
        ('[baseline.save]\ntoo = "x"', "bakeoff.toml: [baseline.save] unknown key 'too'; known: folder, to, cells - did you mean 'to'?"),
        ("[needs]\nthreads = 2", "bakeoff.toml: [needs] unknown key 'threads'; known: documents, "),
        ('[eval]\nmodels = "bm25"', "bakeoff.toml: [eval] models = 'bm25' should be a list, as in ['bm25']"),
        ("[eval]\nmodels = [1]", "[eval] models = [1] should be a list, each a string"),
        ("[eval]\nsplit = 3", "[eval] split = 3 should be a string"),
        ("[check]\njunit = true", "[check] junit = True should be a string"),
        ('[eval]\nthreads = "two"', "[eval] threads = 'two' should be a whole number"),
        ("[eval]\nthreads = 2.5", "[eval] threads = 2.5 should be a whole number"),
        ("[eval]\nthreads = true", "[eval] threads = True should be a whole number"),
        ("[eval]\nthreads = 0", "[eval] threads = 0: 0 is not in the range x>=1"),
        ('[eval]\nquiet = "yes"', "[eval] quiet = 'yes' should be true or false"),
        ("[eval]\nforce = 1", "[eval] force = 1 should be true or false"),
        ("[eval]\ndims = 64", """[eval] dims = 64 should be a string or a list, as in "256,64" or ["native", 64]"""),
        ("[eval]\ndims = [64, 0]", "[eval] dims = [64, 0]: dim '0' is not a whole number of 1 or more"),
        ("[eval]\ndims = [true]", "[eval] dims = [True]: dim 'True' is not a whole number"),
        ('[eval]\nmetrics = ["ndgc@10"]', "did you mean 'ndcg'"),
        ('[eval]\nmetrics = ["ndcg"]', "bakeoff.toml: [eval] metrics = ['ndcg']: "),
        ("[needs]\nmax_p95_ms = true", "[needs] max_p95_ms = True should be a number"),
        ("[needs]\nmax_ram_gb = -1", "[needs] max_ram_gb = -1: -1.0 is not in the range x>=0"),
        ("[needs]\ngive_up = 1", "[needs] give_up = 1: 1.0 is not in the range 0<=x<1"),
        ("[needs]\ndocuments = 0", "[needs] documents = 0: 0 is not in the range x>=1"),
        ("[show]\ncommercial = 1", "[show] commercial = 1 should be true or false"),
        ('[eval]\ndata = \nsplit = "dev"', "bakeoff.toml: cannot be read as TOML: Invalid value (at line 2, column 8)"),
        ('[[check]]\nmetric = "ndcg@10"', "bakeoff.toml: [[check]] is unknown; write the rules of the gate as [[rule]]"),
        ("[rule]", "each written [[rule]]"),
        ('[[rule]]\nmetric = "ndcg@10"\nalowed = 1', "bakeoff.toml: [[rule]] number 1: unknown key 'alowed'"),
    ],
)
def test_a_wrong_file_is_one_line_and_exit_code_2_whatever_is_run(text: str, said: str) -> None:
    Path("bakeoff.toml").write_text(text)
    done = invoke("datasets")
    assert said in done.stderr
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("words", [["--help"], ["eval", "--help"], ["baseline", "save", "-h"], ["--version"]])
def test_help_needs_no_good_file(words: list[str]) -> None:
    Path("bakeoff.toml").write_text("[broken")
    assert invoke(*words).exit_code == 0
    assert invoke("--config", "none.toml", *words).exit_code == 0


def test_a_named_file_takes_the_place_of_the_default_and_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: dict[str, Any] = {}
    monkeypatch.setattr(main.commands["eval"], "callback", lambda **given: arrived.update(given))
    Path("other.toml").write_text('[eval]\nsplit = "dev"\n')
    Path("bakeoff.toml").write_text("[broken")
    assert invoke("--config", "other.toml", "eval").exit_code == 0
    assert (arrived["data"], arrived["split"]) == ("quickstart", "dev")
    missing = invoke("--config", "none.toml", "eval")
    assert missing.exit_code == 2
    assert missing.stderr.startswith("bakeoff: none.toml: cannot be read as TOML: ")


def test_eval_runs_from_the_file_alone_and_says_so(tiny: Dataset) -> None:
    write_beir(tiny, Path("mycorpus"))
    Path("bakeoff.toml").write_text(
        '[eval]\ndata = "mycorpus"\nmodels = ["hash/64"]\ndims = [32]\nmetrics = ["mrr@5,ndcg@3", "recall@5"]\nout = "o"\n'
    )
    done = invoke("eval")
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("settings: bakeoff.toml\n")
    board = result.load(Path("o"))
    assert [(one.spec, one.dim, list(one.scores)) for one in board.results if not one.floor] == [
        ("hash/64", 32, ["mrr@5", "ndcg@3", "recall@5"])
    ]
    assert invoke("eval", "--quiet").stderr == ""


def test_the_gate_takes_its_rules_from_the_file_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def stop(_: object, baseline: Path, rules: Any, cell: str | None) -> None:
        seen.append((baseline.name, [rule.metric for rule in rules], cell))
        raise OptionError("seen")

    monkeypatch.setattr(result, "load", lambda _: None)
    monkeypatch.setattr("harness.check.check", stop)
    invoke("check", "out")
    for name, metric in (("bakeoff.toml", "mrr@1"), ("other.toml", "mrr@2"), ("rules.toml", "mrr@3")):
        Path(name).write_text(f'[check]\nbaseline = "{name}.json"\n[[rule]]\nmetric = "{metric}"\n')
    invoke("check", "out")
    invoke("--config", "other.toml", "check", "out")
    invoke("check", "out", "--rules", "rules.toml", "--cell", "x @ 1")
    assert seen == [
        ("bakeoff-baseline.json", [], None),
        ("bakeoff.toml.json", ["mrr@1"], None),
        ("other.toml.json", ["mrr@2"], None),
        ("bakeoff.toml.json", ["mrr@3"], "x @ 1"),
    ]
    Path("empty.toml").write_text("")
    assert "empty.toml: holds no rule; write them as [[rule]] tables" in invoke("check", "out", "--rules", "empty.toml").stderr


def test_the_example_in_the_readme_is_read_without_anything_heavy() -> None:
    example = re.search(r"```toml\n(\[eval\].*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    Path("bakeoff.toml").write_text(example[1])
    code = (
        "import sys; from pathlib import Path; from harness.cli import main; from harness.config import read\n"
        "print(read(Path('bakeoff.toml'), main)['show']['max_p95_ms'], *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("50 ")
    assert not set(done.stdout.split()) & set(HEAVY)
