"""``bakeoff prompts``: a command of the command line, which ``harness/cli.py`` registers."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness import config


@click.command("prompts")
@click.argument("data", default="quickstart")
@click.option("--model", "-m", "models", multiple=True, metavar="PROVIDER/MODEL", help="A model; repeat for more.")
@click.option("--split", default="test", show_default=True, help="Which judgements: qrels/SPLIT.tsv.")
@click.option("--queries", type=click.IntRange(min=1), default=300, show_default=True, help="The most queries that are sampled.")
@click.option(
    "--sampled-documents",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="The most documents, beside those judged for these queries; each is embedded with every prompt for documents.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which sample.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where vectors are kept. Default: $BAKEOFF_CACHE/store, else ~/.cache/bakeoff/store."
)
@click.option(
    "--budget", metavar="USD", type=click.FloatRange(min=0), help="The most that DATA may ever cost at providers, earlier runs included."
)
@config.with_compute
@click.option("--quiet/--no-quiet", "-q", help="No progress.")
def prompts(
    data: str,
    models: tuple[str, ...],
    split: str,
    queries: int,
    sampled_documents: int,
    seed: int,
    store: Path | None,
    budget: float | None,
    compute: str | None,
    quiet: bool,
) -> None:
    """Hold the prompts of models against others, on a sample of DATA: none, swapped, one alone, those of known families.

    Exit code 0: nothing to say. 1: another prompt ranks the relevant documents higher, with 99 % confidence not by chance, and gains 0.01
    nDCG@10 or more, or the configured one does not reach the model. All vectors go through the store, so eval finds those of the
    configured prompts again.
    """
    from harness import catalog, console, environment, shipped
    from harness import prompts as check
    from harness.ledger import Ledger
    from harness.progress import Silent
    from harness.store import VectorStore

    dataset = shipped.load(data, split)
    systems = {
        spec: catalog.load(spec, dataset.about.instructions)
        for spec in dict.fromkeys(catalog.with_compute(models or catalog.DEFAULT_MODELS[len(catalog.FLOORS) :], compute))
    }
    part = check.sample(dataset, queries, sampled_documents, seed)
    ledger = Ledger(VectorStore(store or environment.cache_folder() / "store"), dataset.about.name, budget)
    progress = Silent() if quiet else console.listener()
    found = [check.check(spec, system, part, ledger, progress=progress) for spec, system in systems.items()]
    for one in found:
        console.show_prompts(one)
    sys.exit(1 if any(one.warn for one in found) else 0)
