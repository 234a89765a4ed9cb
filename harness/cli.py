"""The command line: the only place that prints or exits. Each command reads its words, calls the library, and reports.

Exit codes: 0 all done; 1 done, but a model failed; 2 wrong input, nothing done; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from harness import commands, config
from harness.cli_gate import check, diff
from harness.cli_prompts import prompts
from harness.errors import HarnessError, ModelError
from harness.keys import redact

if TYPE_CHECKING:
    from harness.scale import Needs


class _Group(click.Group):
    """Reads the settings file, and catches what a user can mend, once, for every command."""

    def invoke(self, context: click.Context) -> object:
        sys.excepthook = _without_keys
        try:
            context.obj = context.params["settings"] or (config.DEFAULT if config.DEFAULT.exists() else None)
            if context.obj and not set(context.args) & set(context.help_option_names):  # a broken file is no reason to refuse help
                context.default_map = config.read(context.obj, self)
            return super().invoke(context)
        except HarnessError as error:
            if context.params.get("debug"):
                raise
            from reports.choosing import plain

            click.echo(f"bakeoff: {plain(redact(str(error)))}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("bakeoff: stopped; what was finished is kept, the same command goes on from there", err=True)
            sys.exit(130)


def _without_keys(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, but no API key that somebody's message repeats."""
    click.echo(redact("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="bakeoff", prog_name="bakeoff")
@click.option(
    "--config", "settings", metavar="FILE", type=click.Path(path_type=Path), help="Settings file. Default: bakeoff.toml, if it is here."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(settings: Path | None, debug: bool) -> None:
    """Choose an embedding model on your own data, with numbers you can trust.

    Every option of a command can stand in the settings file, as in [eval] threads = 4; the command line overrules it.
    """


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
    type=config.Listed("parse_dims"),
    metavar="LIST",
    help="Dimensions to measure, as 256,64 or native. Default: the native one and the model's Matryoshka dimensions, else powers of two down to 32.",
)
@click.option(
    "--precision",
    "precisions",
    type=config.Listed("parse_precisions"),
    metavar="LIST",
    help="Precisions to measure beside float32: float16, int8, int8-asymmetric (queries stay float32), binary, binary-asymmetric, or all.",
)
@click.option(
    "--rescore",
    type=config.Listed("parse_rescore"),
    metavar="LIST",
    help="Also search in two stages: so many times the first metric's cut-off from the small vectors, as 2,4,10, put in order by the native ones.",
)
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="FACTORY",
    help="An index in FAISS's language, with search parameters, as HNSW32?efSearch=16,64 or IVF64,Flat?nprobe=1,8; or auto. Repeat for more.",
)
@click.option(
    "--metric",
    "metrics",
    type=config.Measures(),
    multiple=True,
    metavar="NAME@K",
    help="ndcg, recall, mrr, map, precision or success at a cut-off, separated by commas or repeated; the first ranks the table. Default: ndcg@10, recall@10, recall@100, mrr@10.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the results go. Default: out/NAME-OF-DATASET.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where vectors are kept. Default: $BAKEOFF_CACHE/store, else ~/.cache/bakeoff/store."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads for searching. Default: all cores.")
@click.option(
    "--budget", metavar="USD", type=click.FloatRange(min=0), help="The most that DATA may ever cost at providers, earlier runs included."
)
@config.with_compute
@click.option("--server-dims/--no-server-dims", help="Ask APIs for every smaller dimension too, instead of cutting their vectors here.")
@click.option("--force/--no-force", help="Compute finished cells again (vectors in the store are still used).")
@click.option(
    "--check-prompts/--no-check-prompts",
    default=None,
    help="Hold each model's query prompt against others, on 300 queries. Default: on as many as take 5 s, or a twentieth of the time of embedding, if those are 100.",
)
@click.option("--quiet/--no-quiet", "-q", help="No progress.")
@config.with_needs
@click.pass_obj
def evaluate(
    file: Path | None,
    data: str,
    models: tuple[str, ...],
    split: str,
    dims: str | None,
    precisions: str | None,
    rescore: str | None,
    indexes: tuple[str, ...],
    metrics: tuple[str, ...],
    out: Path | None,
    store: Path | None,
    threads: int | None,
    budget: float | None,
    compute: str | None,
    server_dims: bool,
    force: bool,
    check_prompts: bool | None,
    quiet: bool,
    needs: Needs,
) -> None:
    """Measure models on DATA: a folder in BEIR layout, or the name of a shipped dataset (default: quickstart).

    BM25 and a random order are always measured along. Without --model: bm25, random, wordllama/256 and
    packaged/all-MiniLM-L6-v2.
    """
    from harness import catalog, console, runner, shipped
    from harness.experiment import parse_dims, parse_precisions, parse_rescore
    from harness.progress import Silent
    from harness.verdict import choose
    from reports import write
    from reports.table import columns

    if file and not quiet:
        click.echo(f"settings: {file}", err=True)
    dataset, asked = shipped.load(data, split), catalog.with_compute(models or catalog.DEFAULT_MODELS, compute)
    folder = out or Path("out") / (re.sub(r"[^\w.-]+", "-", dataset.about.name).strip(".-") or "dataset")
    board = runner.evaluate(
        dataset,
        catalog.by_server(asked, parse_dims(dims) if dims else (), dataset.about.instructions) if server_dims else asked,
        dims=parse_dims(dims) if dims else None,
        precisions=parse_precisions(precisions or ""),
        rescore=parse_rescore(rescore or ""),
        indexes=indexes,
        metrics=[name for names in metrics for name in names.split(",")] or runner.DEFAULT_METRICS,
        out=folder,
        store_folder=store,
        threads=threads,
        force=force,
        progress=Silent() if quiet else console.listener(),
        needs=needs,
        budget=budget,
        check_prompts=check_prompts,
    )
    verdict = choose(board, needs)
    paths = write(board, folder, verdict)
    console.show(board, verdict, columns(board, verdict))
    click.echo(f"page: {paths['leaderboard.html']}")
    sys.exit(1 if board.failed else 0)


@main.command("plan")
@click.argument("data", default="quickstart")
@click.option("--model", "-m", "models", multiple=True, metavar="PROVIDER/MODEL", help="A model; repeat for more.")
@click.option("--split", default="test", show_default=True, help="Which judgements: qrels/SPLIT.tsv.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where vectors are kept. Default: $BAKEOFF_CACHE/store, else ~/.cache/bakeoff/store."
)
@click.option("--budget", metavar="USD", type=click.FloatRange(min=0), help="What eval will be given: exit code 1 if it would not do.")
@config.with_compute
def plan(data: str, models: tuple[str, ...], split: str, store: Path | None, budget: float | None, compute: str | None) -> None:
    """Show what measuring models on DATA would take: tokens, money, time, what is cut off, disk. Nothing is sent anywhere."""
    from harness import catalog, console, environment, shipped
    from harness.embedder import Embedder
    from harness.ledger import Ledger
    from harness.plan import forecast
    from harness.store import VectorStore

    dataset = shipped.load(data, split)
    vector_store = VectorStore(store or environment.cache_folder() / "store")
    found, absent = [], {}
    for spec in dict.fromkeys(catalog.with_compute(models or catalog.DEFAULT_MODELS, compute)):
        try:
            if isinstance(embedder := catalog.load(spec, dataset.about.instructions), Embedder):
                found.append(forecast(vector_store, spec, embedder, dataset))
        except ModelError as error:
            absent[spec] = str(error)
    spent = Ledger(vector_store, dataset.about.name).spent()
    console.show_plan(dataset, found, spent, budget)
    for reason in absent.values():
        click.echo(redact(f"failed: {reason}"))
    known = spent + sum(one.usd or 0.0 for one in found)
    sys.exit(1 if absent or (budget is not None and (known > budget or any(one.usd is None for one in found))) else 0)


for command in (check, diff, prompts):
    main.add_command(command)


@main.command("show")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--forget/--no-forget", help="Forget the scale and limits that the folder was last asked with.")
@config.with_wanted
def show(folder: Path, forget: bool, wanted: Mapping[str, Any]) -> None:
    """Print the leaderboard in FOLDER (out/NAME) again, without measuring anything, and write its pages and summary.json anew.

    The scale and limits are those of the last eval or show, but for what is given here or in the settings file.
    """
    from harness import console, result
    from harness.scale import Needs
    from harness.verdict import choose
    from reports import write
    from reports.table import columns

    board = result.load(folder)
    verdict = choose(board, Needs.read({} if forget else board.needs, wanted))
    result.save(board, folder, verdict.summary())
    write(board, folder, verdict)
    console.show(board, verdict, columns(board, verdict))


@main.group("baseline")
def baseline() -> None:
    """Keep a measured state to hold later ones against."""


@baseline.command("save")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), default=Path("bakeoff-baseline.json"), show_default=True, help="The file to write.")
@click.option(
    "--cell", "cells", multiple=True, metavar="'MODEL @ DIM'", help="Which cell; repeat for more. Default: the best model's best."
)
def baseline_save(folder: Path, to: Path, cells: tuple[str, ...]) -> None:
    """Save cells of the leaderboard in FOLDER (out/NAME) as a baseline: a small file to commit and review."""
    from harness import result
    from harness.baseline import save_baseline

    saved = save_baseline(result.load(folder), to, cells)
    click.echo(f"{to}: {', '.join(saved)}")


@main.command("models")
@click.option("--task", metavar="NAME", help="Only models made for this: english, multilingual, code, long or image.")
@click.option(
    "--max-price", metavar="USD", type=click.FloatRange(min=0), help="Only models of at most USD per million tokens; local ones cost 0."
)
@click.option("--mrl/--no-mrl", help="Only models trained to be cut at smaller dimensions (Matryoshka).")
@click.option("--can-run/--no-can-run", help="Only models that can run now: their package is installed and their key is set.")
def models(task: str | None, max_price: float | None, mrl: bool, can_run: bool) -> None:
    """List the providers, and the models that the catalog knows something of: dimensions, limits, prices, what is missing here."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from harness import catalog
    from harness import models as known

    found = known.fitting(known.listed(), known.Wish(task, max_price, mrl, can_run))
    for provider in catalog.providers():
        click.echo(catalog.describe(provider))
    click.echo()
    table, rows = Table(box=box.SIMPLE_HEAD), [entry.row() for entry in found.entries]
    for place, heading in enumerate(known.HEADINGS):
        table.add_column(heading, overflow="fold", no_wrap=not place)  # a name is not broken: it is there to be copied
    for row in rows:
        table.add_row(*map(Text, row))
    if rows:
        (Console() if sys.stdout.isatty() else Console(width=160)).print(table)
    else:
        click.echo("No model of the catalog fits.")
    if found.unpriced:
        click.echo(f"Left out because their price is not known: {found.unpriced}.")


@main.command("datasets")
def datasets() -> None:
    """List the datasets that come with bakeoff."""
    from harness import beir, shipped

    for name in shipped.names():
        click.echo(f"{name}: {beir.read_about(shipped.root() / name).get('description', '')}")


for command in commands.ALL:
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="bakeoff")
