"""The GitHub Action and the workflows that the docs show: read as YAML, and the action's last step run as a runner would."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from test_architecture import ROOT

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEP = ACTION["runs"]["steps"][-1]
REPORTS = ["--markdown", "summary.md", "--junit", "out/check/junit.xml"]
STAND_IN = r"""#!/bin/bash
printf '%s\n' "$#" "$@" >> calls
[ "$1" != "$FAILS" ] || exit "$CODE"
"""


def examples() -> list[Any]:
    """Every YAML block of the docs, with where it stands."""
    found = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^( *)```ya?ml\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [pytest.param(dedent(text), id=f"{page.name}-{at}") for at, (_, text) in enumerate(blocks)]
    return found


@pytest.fixture
def calls(tmp_path: Path) -> Any:
    """A function that runs the last step with inputs, and a stand-in for bakeoff; gives exit code and the words of each call."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bakeoff").write_text(STAND_IN)
    (tmp_path / "bin" / "bakeoff").chmod(0o755)
    (tmp_path / "a.toml").write_text("a glob would find this")

    def run(fails: str = "", code: int = 0, **inputs: str) -> tuple[int, list[list[str]]]:
        given = {name: about.get("default", "") for name, about in ACTION["inputs"].items()} | inputs
        step = {name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], value) for name, value in STEP["env"].items()}
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        environment = {**step, "PATH": path, "GITHUB_STEP_SUMMARY": "summary.md", "FAILS": fails, "CODE": str(code)}
        bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]]  # what `shell: bash` means on a runner
        done = subprocess.run(bash, cwd=tmp_path, env=environment, check=False, capture_output=True, timeout=60)
        assert {one.name for one in tmp_path.iterdir()} <= {"bin", "a.toml", "calls"}, "nothing in an input is run"
        log = tmp_path / "calls"
        words = iter(log.read_text().splitlines() if log.exists() else [])
        made = [[next(words) for _ in range(int(count))] for count in words]
        log.unlink(missing_ok=True)
        return done.returncode, made

    return run


def test_the_action_is_one_that_github_reads() -> None:
    assert ACTION["runs"]["using"] == "composite"
    for step in ACTION["runs"]["steps"]:
        assert "uses" in step or (step["run"] and step["shell"] == "bash")
    assert all(isinstance(about["description"], str) and isinstance(about["default"], str) for about in ACTION["inputs"].values())
    used = set(re.findall(r"inputs\.([\w-]+)", str(ACTION["runs"])))
    assert used == set(ACTION["inputs"])
    assert "${{" not in STEP["run"], "an input must reach the shell as data"


@pytest.mark.parametrize("text", examples())
def test_workflows_in_the_docs_are_yaml_and_give_what_the_action_takes(text: str) -> None:
    workflow = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    ours = [step for step in steps if "/bakeoff@" in step.get("uses", "")]
    assert ours
    assert all(set(step["with"]) <= set(ACTION["inputs"]) for step in ours)


def test_the_docs_show_a_workflow() -> None:
    assert any(param.id.startswith("ci.md") for param in examples())


def test_the_projects_own_workflows_are_yaml() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def test_empty_inputs_are_left_out(calls: Any) -> None:
    nothing = [["eval", "--out", "out/check", "--quiet"], ["check", "out/check", *REPORTS]]
    assert calls() == (0, nothing)
    assert calls(args="  \n ", models=" ") == (0, nothing)


def test_values_arrive_whole_and_nothing_in_them_is_run(calls: Any) -> None:
    code, (evaluated, checked) = calls(
        data='my "corpus"; touch ran $(touch ran) *',
        models="st/org/name?query_prompt=a*\n *.toml `touch`",
        baseline="-b $(touch ran) 'x'*.json",
        out="o u t",
        args="--cell \"st/org/name @ 256\" --rules '*.toml' --json $(touch ran) *",
    )
    models = ["--model", "st/org/name?query_prompt=a*", "--model", "*.toml", "--model", "`touch`"]
    assert code == 0
    assert evaluated == ["eval", 'my "corpus"; touch ran $(touch ran) *', *models, "--out", "o u t", "--quiet"]
    assert checked == [
        *("check", "o u t", "--baseline", "-b $(touch ran) 'x'*.json", "--markdown", "summary.md", "--junit", "o u t/junit.xml"),
        *("--cell", "st/org/name @ 256", "--rules", "*.toml", "--json", "$(touch", "ran)", "*"),
    ]


@pytest.mark.parametrize("code", [1, 2, 130])
def test_exit_codes_are_bakeoffs_and_nothing_is_checked_that_was_not_measured(calls: Any, code: int) -> None:
    returned, (_, checked) = calls(fails="check", code=code)
    assert (returned, checked[0]) == (code, "check")
    returned, (only,) = calls(fails="eval", code=code)
    assert (returned, only[0]) == (code, "eval")


def test_options_with_an_open_quote_are_not_dropped(calls: Any) -> None:
    assert calls(args='"--rules strict.toml') == (2, [])
