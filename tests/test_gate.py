"""What a check leaves behind: on the terminal, as Markdown, JUnit XML and JSON, and by its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from boards import cell, leaderboard, written
from click.testing import CliRunner, Result

from harness.baseline import save_baseline
from harness.check import Report, Rule, check
from harness.cli import main
from harness.result import Leaderboard
from reports import gate

HOSTILE = "de\x1b[31m\x00\x07\ufffe\ud800|red\n<b>"
IDS = tuple(f"q{row}" for row in range(40))


def made(score: float, **changes: object) -> Leaderboard:
    """One cell with this score on all queries, sliced by a tag that would like to steer a terminal."""
    board = leaderboard(cell("st/a", [score] * 40, provider="st", name="a", revision="1"))
    facts = {"fingerprint": {"documents": "a", "queries": "b", "judgements": "c", "judged": "d"}}
    known = {"slices": {"tag": {"good": IDS[::2], HOSTILE: IDS[1::2]}}, "queries": dict.fromkeys(IDS, "a question")}
    return replace(board, dataset=board.dataset | facts, **(known | changes))


def found_as(board: Leaderboard, document: str) -> Leaderboard:
    return replace(board, results=tuple(replace(r, documents=(np.array([document], dtype=object),) * 40) for r in board.results))


@pytest.fixture
def regressed(tmp_path: Path) -> Report:
    save_baseline(made(0.9), tmp_path / "b.json")
    return check(made(0.4), tmp_path / "b.json")


def bakeoff(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], color=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A leaderboard that holds against ``b.json`` beside it."""
    save_baseline(made(0.5), tmp_path / "b.json")
    return written(made(0.5), tmp_path / "out")


def options(folder: Path) -> list[str | Path]:
    """The three reports, in a folder that is not there yet."""
    reports = folder / "ci" / "reports"
    return ["--markdown", reports / "summary.md", "--junit", reports / "junit.xml", "--json", reports / "check.json"]


def test_a_sentence_says_when_its_rule_fails(regressed: Report) -> None:
    assert gate.sentence(regressed.outcomes[0]) == (
        "ndcg@10 on all (40 queries) of st/a @ 64: 0.9000 -> 0.4000, -0.5000, p 0.0001; "
        "fails if it drops by more than 0.01 with p < 0.04, or by more than 0.1"
    )


def test_fallen_queries_and_notes_are_in_every_report(tmp_path: Path) -> None:
    save_baseline(made(0.9), tmp_path / "b.json")
    changed = [replace(r, model={**r.model, "revision": "2"}) for r in made(0.4).results]
    rules = [Rule(metric="ndcg@10", allowed=1, hard=1), Rule(metric="ndcg@10", slice="tag: good")]
    report = check(made(0.4, results=tuple(changed)), tmp_path / "b.json", rules)
    fell = ["  fell: q0 ndcg@10 on tag: good 0.900 -> 0.400 'a question'", "        before: d0", "        now:    d0"]
    assert gate.lines(report)[0] == "note: st/a: revision 1 -> 2"
    assert gate.lines(report)[3:6] == fell
    suite = ET.fromstring(gate.junit(report))
    assert suite.attrib == {"name": "bakeoff made", "tests": "2", "failures": "1", "errors": "0"}
    (failure,) = suite.findall("testcase/failure")
    assert failure.text.splitlines()[:3] == fell
    assert len(failure.text.splitlines()) == 3 * 10
    assert suite.findtext("system-out") == "st/a: revision 1 -> 2"
    assert "| q0: a question | ndcg@10 | tag: good | 0.900 | 0.400 | d0 | d0 |" in gate.markdown(report)
    assert "> st/a: revision 1 -> 2" in gate.markdown(report)
    assert json.loads(gate.as_json(report))["fallen"][0]["metric"] == "ndcg@10"


def test_only_the_rule_whose_queries_are_listed_holds_them(regressed: Report) -> None:
    suite = ET.fromstring(gate.junit(regressed))
    assert [bool(failure.text) for failure in suite.findall("testcase/failure")] == [True, False, False]


def test_junit_is_well_formed_whatever_a_tag_holds(regressed: Report) -> None:
    suite = ET.fromstring(gate.junit(regressed))
    assert [case.get("name") for case in suite.findall("testcase")][-1] == "ndcg@10 on tag: de\ufffd[31m\ufffd\ufffd\ufffd?|red\n<b>"
    assert "de\ufffd[31m\ufffd\ufffd\ufffd\ufffd|red" in ET.fromstring(gate.refusal(HOSTILE)[1]).find("testcase/error").get("message")


def test_nothing_steers_the_terminal(tmp_path: Path) -> None:
    tagged = {"queries": dict.fromkeys(IDS, HOSTILE)}
    save_baseline(found_as(made(0.9, **tagged), HOSTILE), tmp_path / "b.json")
    report = check(found_as(made(0.4, **tagged), HOSTILE), tmp_path / "b.json")
    assert report.outcomes[-1].slice == f"tag: {HOSTILE}".replace("\ud800", "?")
    shown = "\n".join([gate.verdict(report), *gate.lines(report)])
    assert "REGRESSED ndcg@10 on tag: de[31m?|red <b> (20 queries)" in shown
    assert "        now:    de[31m|red <b>" in shown
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
    folder = written(made(0.4), tmp_path / "out")
    for words in ([], ["--rules", tmp_path / "r.toml"]):
        (tmp_path / "r.toml").write_text('[[rule]]\nmetric = "ndcg@10"\nslice = "tag: bad"\n')
        done = bakeoff("check", folder, "--baseline", tmp_path / "b.json", *words)
        assert "\x1b" not in done.output
        assert done.exit_code == (2 if words else 1)
        assert "de" in done.output
    baseline = json.loads((tmp_path / "b.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(baseline | {"fingerprint": {"\x1b[31m": ""}}))
    done = bakeoff("check", folder, "--baseline", tmp_path / "b.json")
    assert done.stderr.startswith("bakeoff: ")
    assert "\x1b" not in done.stderr


def test_reports_go_into_folders_that_are_made(folder: Path) -> None:
    assert bakeoff("check", folder, "--baseline", folder.parent / "b.json", *options(folder)).exit_code == 0
    made_there = folder / "ci" / "reports"
    assert ET.parse(made_there / "junit.xml").getroot().get("failures") == "0"
    assert json.loads((made_there / "check.json").read_text())["regressed"] is False
    assert "has held" in (made_there / "summary.md").read_text()


@pytest.mark.parametrize("broken", ["baseline", "cell", "folder", "rules"])
def test_what_cannot_be_compared_is_said_in_every_report_and_no_earlier_one_stays(folder: Path, broken: str) -> None:
    baseline = folder.parent / "b.json"
    assert bakeoff("check", folder, "--baseline", baseline, *options(folder)).exit_code == 0
    words: dict[str, list[str | Path]] = {
        "baseline": [folder, "--baseline", "none.json"],
        "cell": [folder, "--baseline", baseline, "--cell", "st/b @ 1"],
        "folder": [folder / "none", "--baseline", baseline],
        "rules": [folder, "--baseline", baseline, "--rules", "none.toml"],
    }
    done = bakeoff("check", *words[broken], *options(folder))
    assert (done.exit_code, done.stdout) == (2, "")
    said = done.stderr.removeprefix("bakeoff: ").strip()
    reports = folder / "ci" / "reports"
    suite = ET.parse(reports / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    assert suite.find("testcase/error").get("message") == f"cannot be compared: {said}"
    assert json.loads((reports / "check.json").read_text()) == {"error": f"cannot be compared: {said}"}
    summary = (reports / "summary.md").read_text()
    assert "has held" in summary, "a summary is appended to"
    assert "\n## Retrieval cannot be compared\n\n> cannot be compared: " in summary


@pytest.mark.parametrize("baseline", ["b.json", "none.json"])
def test_a_report_that_cannot_be_written_is_exit_code_2_and_the_others_are_written(folder: Path, baseline: str) -> None:
    (folder / "file").write_text("")
    wrong = ["--markdown", folder / "file" / "summary.md", "--junit", folder, "--json", folder / "check.json"]
    done = bakeoff("check", folder, "--baseline", folder.parent / baseline, *wrong)
    assert done.exit_code == 2
    assert "summary.md: cannot be written (" in done.stderr
    assert f"{folder}: cannot be written (" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads((folder / "check.json").read_text()).get("regressed", "error") in (False, "error")


def test_diff_writes_likewise(folder: Path) -> None:
    words = ["diff", "st/a", "st/a", "--in", folder, "--markdown"]
    assert bakeoff(*words, folder / "new" / "diff.md", "--json", folder / "new" / "diff.json").exit_code == 0
    assert (folder / "new" / "diff.md").read_text().startswith("## Moving to")
    done = bakeoff(*words, folder)
    assert done.exit_code == 2
    assert f"{folder}: cannot be written (" in done.stderr
