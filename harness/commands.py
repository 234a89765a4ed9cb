"""Commands beside measuring and judging: what this machine can do. harness/cli.py puts them into its group."""

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


ALL = (doctor,)
