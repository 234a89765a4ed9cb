"""The command line: the only place that prints or exits. Each command reads its words, calls the library, and reports.

Exit codes: 0 all done; 1 done, but a model failed; 2 wrong input, nothing done; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from harness.errors import HarnessError
from harness.metrics import Measure


class _Group(click.Group):
    """Catches what a user can mend, once, for every command."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except HarnessError as error:
            if context.params.get("debug"):
                raise
            click.echo(f"bakeoff: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("bakeoff: stopped; what was finished is kept, the same command goes on from there", err=True)
            sys.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bakeoff", prog_name="bakeoff")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Choose an embedding model on your own data, with numbers you can trust."""


@main.command("eval")
@click.argument("data", default="quickstart")
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="PROVIDER/MODEL",
    help="A model, as in st/org/name or wordllama/256; repeat for more. Options go behind it: st/org/name?max_tokens=512.",
)
@click.option("--split", default="test", show_default=True, help="Which judgements: qrels/SPLIT.tsv.")
@click.option(
    "--dims",
    metavar="LIST",
    help="Dimensions to measure, as 256,64 or native. Default: the native one and the model's Matryoshka dimensions, else powers of two down to 32.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME@K",
    help="ndcg, recall, mrr, map, precision or success at a cut-off; the first ranks the table. Default: ndcg@10, recall@10, recall@100, mrr@10, map@100.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the results go. Default: out/NAME-OF-DATASET.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where vectors are kept. Default: $BAKEOFF_CACHE/store, else ~/.cache/bakeoff/store."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads for searching. Default: all cores.")
@click.option("--force", is_flag=True, help="Compute finished cells again (vectors in the store are still used).")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def evaluate(
    data: str,
    models: tuple[str, ...],
    split: str,
    dims: str | None,
    metrics: tuple[str, ...],
    out: Path | None,
    store: Path | None,
    threads: int | None,
    force: bool,
    quiet: bool,
) -> None:
    """Measure models on DATA: a folder in BEIR layout, or the name of a shipped dataset (default: quickstart).

    BM25 and a random order are always measured along. Without --model: bm25, random, wordllama/256 and
    packaged/all-MiniLM-L6-v2.
    """
    from harness import catalog, console, runner, shipped
    from harness.experiment import parse_dims
    from harness.progress import Silent
    from harness.verdict import choose
    from reports import write
    from reports.table import columns

    wanted = [str(Measure.parse(metric)) for metric in metrics] or runner.DEFAULT_METRICS
    cut = parse_dims(dims) if dims is not None else None
    dataset = shipped.load(data, split)
    folder = out or Path("out") / (re.sub(r"[^\w.-]+", "-", dataset.about.name).strip(".-") or "dataset")
    board = runner.evaluate(
        dataset,
        models or catalog.DEFAULT_MODELS,
        dims=cut,
        metrics=wanted,
        out=folder,
        store_folder=store,
        threads=threads,
        force=force,
        progress=Silent() if quiet else console.Bars() if sys.stderr.isatty() else console.Lines(),
    )
    paths = write(board, folder)
    verdict = choose(board)
    console.show(board, verdict, columns(board, verdict))
    click.echo(f"page: {paths['leaderboard.html']}")
    sys.exit(1 if board.failed else 0)


@main.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Print the leaderboard in FOLDER (out/NAME) again, and write its pages anew, without measuring anything."""
    from harness import console, result
    from harness.verdict import choose
    from reports import write
    from reports.table import columns

    board = result.load(folder)
    write(board, folder)
    verdict = choose(board)
    console.show(board, verdict, columns(board, verdict))


@main.command("models")
def models() -> None:
    """List the providers, and the models that the catalog knows something of."""
    from harness import catalog

    click.echo("providers: " + ", ".join(catalog.providers()))
    for name, known in sorted(catalog.entries().items()):
        dims = ", ".join(str(dim) for dim in known.mrl_dims)
        click.echo(f"{name}  licence {known.licence or '?'}" + (f"  Matryoshka dims {dims}" if dims else ""))


@main.command("datasets")
def datasets() -> None:
    """List the datasets that come with bakeoff."""
    from harness import beir, shipped

    for name in shipped.names():
        click.echo(f"{name}: {beir.read_about(shipped.root() / name).get('description', '')}")
