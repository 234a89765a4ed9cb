"""Commands beside measuring and judging: what this machine can do, what token vectors know. harness/cli.py puts them into its group."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.keys import redact


@click.command("doctor")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where vectors are kept. Default: $BAKEOFF_CACHE/store, else ~/.cache/bakeoff/store."
)
@click.option("--torch/--no-torch", default=True, help="Whether to import torch, which takes seconds, and ask it for its devices.")
@click.option("--json/--no-json", help="Everything as JSON.")
def doctor(store: Path | None, torch: bool, json: bool) -> None:
    """Say what is installed, which keys are set and which models can run; a fact a line, with -> in front of what to do.

    Exit code 0 if the default evaluation (make eval) can run, else 1. Keys are named and never shown.
    """
    from json import dumps

    from harness.doctor import as_json, examine

    facts = examine(store, torch=torch)
    said = dumps(as_json(facts), indent=1) if json else "\n".join(fact.line() for fact in facts)
    click.echo(redact(said))
    sys.exit(1 if any(fact.stops for fact in facts) else 0)


@click.command("senses")
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="PROVIDER/MODEL",
    help="A local model with token vectors; repeat for more. Default: wordllama/256 and packaged/all-MiniLM-L6-v2.",
)
@click.option(
    "--pairs", type=click.Path(path_type=Path), help="Pairs of sentences of your own, JSON lines like datasets/senses/pairs.jsonl."
)
@click.option("--word", metavar="WORD", help="The word whose occurrences are drawn. Default: the one in the most sentences.")
@click.option(
    "--in",
    "folder",
    type=click.Path(path_type=Path),
    help="The leaderboard (out/NAME) whose ranking quality stands beside it. Default: out/quickstart, if it is there.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/senses"), show_default=True, help="Where the page goes.")
def senses(models: tuple[str, ...], pairs: Path | None, word: str | None, folder: Path | None, out: Path) -> None:
    """Show how well a word's vector knows which sense the word has, layer by layer.

    The same word in two sentences: the area under the ROC curve of same sense against another; 0.5 is chance, and what static
    vectors have by construction.
    """
    from harness import console, result
    from harness import senses as study
    from reports import senses as report

    quickstart = Path("out/quickstart")
    chosen = folder or (quickstart if (quickstart / result.SUMMARY).is_file() else None)
    board = result.load(chosen) if chosen else None
    found = study.study_all(models or study.DEFAULT_MODELS, study.read(pairs), word, board)
    console.show_senses(found)
    click.echo(f"page: {report.write(found, out)[report.PAGE]}")
    sys.exit(1 if found.absences else 0)


ALL = (doctor, senses)
