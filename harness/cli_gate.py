"""The commands that hold one measured state against another: ``check`` for CI and ``diff`` for a change of model."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness import config
from harness.errors import HarnessError, OptionError
from harness.keys import redact

if TYPE_CHECKING:
    from harness.scale import Needs


def _write(paths: Iterable[tuple[Path | None, str]], texts: Iterable[str]) -> None:
    """Write a text to each path that is given, with its mode (a appends); raises OptionError for those that cannot be written."""
    failed = []
    for (path, mode), text in zip(paths, texts, strict=True):
        if path:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open(mode, encoding="utf-8", errors="replace") as file:  # half a surrogate pair is no reason to lose a report
                    file.write(text)
            except (OSError, ValueError) as error:
                failed.append(f"{path}: cannot be written ({error}); name another file")
    if failed:
        raise OptionError("; ".join(failed))


@click.command("check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), default=Path("bakeoff-baseline.json"), show_default=True)
@click.option(
    "--rules",
    type=click.Path(path_type=Path),
    help="TOML file with [[rule]] tables. Default: those in the settings file, else the built-in rules.",
)
@click.option("--cell", metavar="'MODEL @ DIM'", help="The cell of the new run that takes the place of the baseline's one cell.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Append a summary here, as $GITHUB_STEP_SUMMARY wants it.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write JUnit XML here.")
@click.option("--json", type=click.Path(path_type=Path), help="Write everything as JSON here.")
@click.pass_obj
def check(
    file: Path | None,
    folder: Path,
    baseline: Path,
    rules: Path | None,
    cell: str | None,
    markdown: Path | None,
    junit: Path | None,
    json: Path | None,
) -> None:
    """Hold the leaderboard in FOLDER (out/NAME) against a baseline.

    Exit code 0: held. 1: regressed. 2: cannot be compared (other data, missing result, unreadable baseline), which the
    reports then say.
    """
    from harness import check as gate
    from harness import result
    from reports import gate as report

    paths = ((markdown, "a"), (junit, "w"), (json, "w"))
    try:
        chosen = gate.rules_in_force(rules, file)
        found = gate.check(result.load(folder), baseline, chosen, cell)
    except HarnessError as error:  # reports that stay as they were would be taken for this check's
        _write(paths, report.refusal(redact(str(error))))
        raise
    click.echo("\n".join([*report.lines(found), report.verdict(found)]))
    _write(paths, report.pages(found))
    sys.exit(1 if found.regressed else 0)


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option(
    "--in",
    "folder",
    type=click.Path(path_type=Path),
    help="The leaderboard (out/NAME) that OLD and NEW are cells of. Default: the only one in out/.",
)
@click.option("--markdown", type=click.Path(path_type=Path), help="Write it as Markdown here.")
@click.option("--json", type=click.Path(path_type=Path), help="Write everything as JSON here.")
@config.with_needs
def diff(old: str, new: str, folder: Path | None, markdown: Path | None, json: Path | None, needs: Needs) -> None:
    """Show what moving from the model OLD to the model NEW changes.

    Quality with its interval, over all queries and by slice; the queries that get worse and better, with what is found for
    them; what re-embedding and running cost at your scale, and whether NEW keeps your limits; and whether NEW at a smaller
    dimension keeps OLD's quality, or loses at most --give-up of it.

    OLD and NEW are written 'MODEL @ DIM', or MODEL for its largest dimension, or the folder of a leaderboard (out/NAME) for
    its best model.
    """
    from harness import migration
    from reports import migration as report

    (before, other), (after, board) = migration.locate(old, folder), migration.locate(new, folder)
    found = migration.migrate(board, before, after, other=other, needs=needs)
    click.echo(report.text(found))
    _write(((markdown, "w"), (json, "w")), (report.markdown(found), report.as_json(found)))
