"""The outcome of a check as Markdown (for a pull request), JUnit XML (for a CI server) and JSON (for scripts)."""

from __future__ import annotations

import json
from dataclasses import asdict
from xml.etree import ElementTree as ET

from harness.check import Outcome, Report
from reports.choosing import cell as _cell


def verdict(report: Report) -> str:
    """One sentence: held or regressed, and by which rules."""
    broken = [outcome for outcome in report.outcomes if outcome.regressed]
    if broken:
        return f"Retrieval on {report.dataset} has regressed: {len(broken)} of {len(report.outcomes)} rules are broken."
    return f"Retrieval on {report.dataset} has held: none of {len(report.outcomes)} rules is broken."


def sentence(outcome: Outcome) -> str:
    """One rule's outcome in words."""
    return (
        f"{outcome.metric} on {outcome.slice} ({outcome.queries} queries) of {outcome.cell}: {outcome.before:.4f} -> {outcome.now:.4f},"
        f" {outcome.change:+.4f}, p {outcome.p:.4f}; allowed -{outcome.allowed} unless p < {1 - outcome.level:.2g}, never -{outcome.hard}"
    )


def markdown(report: Report) -> str:
    """For $GITHUB_STEP_SUMMARY: the verdict, a line per rule, the queries that fell most."""
    lines = [f"## {_cell(verdict(report))}", ""]
    lines += [f"> {_cell(note)}" for note in report.notes] + ([""] if report.notes else [])
    lines += [
        "| | cell | metric | slice | queries | before | now | change | p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in report.outcomes:
        cells = ["REGRESSED" if one.regressed else "held", _cell(one.cell), one.metric, _cell(one.slice), f"{one.queries}"]
        cells += [f"{one.before:.4f}", f"{one.now:.4f}", f"{one.change:+.4f}", f"{one.p:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if report.fallen:
        lines += [
            "",
            "### Queries that fell most",
            "",
            "| query | before | now | found before | found now |",
            "| --- | --- | --- | --- | --- |",
        ]
        for query in report.fallen:
            found = [_cell(", ".join(ids[:5])) for ids in (query.found_before, query.found_now)]
            shown = _cell(f"{query.query}: {query.text}")
            lines.append(f"| {shown} | {query.before:.3f} | {query.now:.3f} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def junit(report: Report) -> str:
    """A test case per rule, cell and slice."""
    failures = sum(outcome.regressed for outcome in report.outcomes)
    suite = ET.Element("testsuite", name=f"bakeoff {report.dataset}", tests=str(len(report.outcomes)), failures=str(failures))
    for outcome in report.outcomes:
        case = ET.SubElement(suite, "testcase", classname=outcome.cell, name=f"{outcome.metric} on {outcome.slice}")
        if outcome.regressed:
            ET.SubElement(case, "failure", message=sentence(outcome))
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def as_json(report: Report) -> str:
    """Everything, with the change and the outcome of each rule spelled out."""
    outcomes = [{**asdict(one), "change": one.change, "regressed": one.regressed} for one in report.outcomes]
    return json.dumps({"regressed": report.regressed, **asdict(report), "outcomes": outcomes}, indent=1, ensure_ascii=False) + "\n"
