"""The outcome of a check: for a terminal, as Markdown (for a pull request), JUnit XML (for a CI server) and JSON (for scripts)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from xml.etree import ElementTree as ET

from harness.check import ALL, Fallen, Outcome, Report
from reports.choosing import cell as _cell
from reports.choosing import plain

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 forbids, however it is written (https://www.w3.org/TR/xml/#charsets)."""
_SHOWN = 5  # documents of a fallen query


def verdict(report: Report) -> str:
    """One sentence: held or regressed, and by which rules."""
    broken = [outcome for outcome in report.outcomes if outcome.regressed]
    if broken:
        return plain(f"Retrieval on {report.dataset} has regressed: {len(broken)} of {len(report.outcomes)} rules are broken.")
    return plain(f"Retrieval on {report.dataset} has held: none of {len(report.outcomes)} rules is broken.")


def sentence(outcome: Outcome) -> str:
    """One rule's outcome in words."""
    return plain(
        f"{outcome.metric} on {outcome.slice} ({outcome.queries} queries) of {outcome.cell}: {outcome.before:.4f} -> {outcome.now:.4f},"
        f" {outcome.change:+.4f}, p {outcome.p:.4f}; fails if it drops by more than {outcome.allowed:g} with p < {1 - outcome.level:.2g},"
        f" or by more than {outcome.hard:g}"
    )


def fell(query: Fallen) -> list[str]:
    """Lines of text on a query that fell, without anything that would steer a terminal."""
    where = "" if query.slice == ALL else f" on {plain(query.slice)}"
    return [
        f"  fell: {plain(query.query)} {query.metric}{where} {query.before:.3f} -> {query.now:.3f} {query.text!r}",
        f"        before: {plain(', '.join(query.found_before[:_SHOWN]))}",
        f"        now:    {plain(', '.join(query.found_now[:_SHOWN]))}",
    ]


def lines(report: Report) -> list[str]:
    """For a terminal, beside the verdict: the notes, the rules (of slices the broken ones only), and what fell where one is broken."""
    shown = [outcome for outcome in report.outcomes if outcome.regressed or outcome.slice == ALL]
    said = [f"note: {plain(note)}" for note in report.notes]
    said += [f"{'REGRESSED' if outcome.regressed else 'held     '} {sentence(outcome)}" for outcome in shown]
    if len(shown) < len(report.outcomes):
        said.append(f"held      {len(report.outcomes) - len(shown)} slices")
    return said + [line for query in report.fallen if report.regressed for line in fell(query)]


def markdown(report: Report) -> str:
    """For $GITHUB_STEP_SUMMARY: the verdict, a line per rule, the queries that fell most."""
    made = [f"## {_cell(verdict(report))}", ""]
    made += [f"> {_cell(note)}" for note in report.notes] + ([""] if report.notes else [])
    made += [
        "| | cell | metric | slice | queries | before | now | change | p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in report.outcomes:
        cells = ["REGRESSED" if one.regressed else "held", _cell(one.cell), one.metric, _cell(one.slice), f"{one.queries}"]
        cells += [f"{one.before:.4f}", f"{one.now:.4f}", f"{one.change:+.4f}", f"{one.p:.4f}"]
        made.append(f"| {' | '.join(cells)} |")
    if report.fallen:
        made += [
            "",
            "### Queries that fell most",
            "",
            "| query | metric | slice | before | now | found before | found now |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for query in report.fallen:
            found = [_cell(", ".join(ids[:_SHOWN])) for ids in (query.found_before, query.found_now)]
            cells = [_cell(f"{query.query}: {query.text}"), query.metric, _cell(query.slice)]
            made.append(f"| {' | '.join([*cells, f'{query.before:.3f}', f'{query.now:.3f}', *found])} |")
    return "\n".join(made) + "\n"


def junit(report: Report) -> str:
    """A test case per rule, cell and slice; a failure holds the queries that fell most, the suite's output the notes."""
    suite = _suite(report.dataset, tests=len(report.outcomes), failures=sum(outcome.regressed for outcome in report.outcomes))
    for outcome in report.outcomes:
        case = _below(suite, "testcase", {"classname": outcome.cell, "name": f"{outcome.metric} on {outcome.slice}"})
        if outcome.regressed:
            about = (outcome.cell, outcome.metric, outcome.slice)
            fallen = [line for one in report.fallen if (one.cell, one.metric, one.slice) == about for line in fell(one)]
            _below(case, "failure", {"message": sentence(outcome)}, "\n".join(fallen))
    if report.notes:
        _below(suite, "system-out", {}, "\n".join(report.notes))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _suite(name: str, tests: int, failures: int = 0, errors: int = 0) -> ET.Element:
    counts = {"tests": str(tests), "failures": str(failures), "errors": str(errors)}
    return ET.Element("testsuite", {"name": _xml(f"bakeoff {name}"), **counts})


def _below(above: ET.Element, tag: str, attributes: Mapping[str, str], text: str = "") -> ET.Element:
    element = ET.SubElement(above, tag, {name: _xml(value) for name, value in attributes.items()})
    element.text = _xml(text) or None
    return element


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def as_json(report: Report) -> str:
    """Everything, with the change and the outcome of each rule spelled out."""
    outcomes = [{**asdict(one), "change": one.change, "regressed": one.regressed} for one in report.outcomes]
    return json.dumps({"regressed": report.regressed, **asdict(report), "outcomes": outcomes}, indent=1, ensure_ascii=False) + "\n"


def pages(report: Report) -> tuple[str, str, str]:
    """Markdown, JUnit XML and JSON."""
    return markdown(report), junit(report), as_json(report)


def refusal(why: str) -> tuple[str, str, str]:
    """The same three where there is no report, and the reason: an error in each, so that nobody takes it for a pass."""
    said = f"cannot be compared: {why}"
    suite = _suite("check", tests=1, errors=1)
    _below(_below(suite, "testcase", {"classname": "bakeoff", "name": "check"}), "error", {"message": said})
    summary = f"## Retrieval cannot be compared\n\n> {_cell(said)}\n"
    return summary, ET.tostring(suite, encoding="unicode", xml_declaration=True), json.dumps({"error": said}, ensure_ascii=False) + "\n"
