"""The command line: the only place that prints or exits. Each command reads its words, calls the library, and reports.

Exit codes: 0 all done; 1 done, but a model failed; 2 wrong input, nothing done; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import config
from harness.errors import HarnessError, OptionError

if TYPE_CHECKING:
    from harness.scale import Needs


class _Group(click.Group):
    """Reads the settings file, and catches what a user can mend, once, for every command."""

    def invoke(self, context: click.Context) -> object:
        try:
            context.obj = context.params["settings"] or (config.DEFAULT if config.DEFAULT.exists() else None)
            if context.obj and not set(context.args) & set(context.help_option_names):  # a broken file is no reason to refuse help
                context.default_map = config.read(context.obj, self)
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
    type=config.Dims(),
    metavar="LIST",
    help="Dimensions to measure, as 256,64 or native. Default: the native one and the model's Matryoshka dimensions, else powers of two down to 32.",
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
@click.option("--force/--no-force", help="Compute finished cells again (vectors in the store are still used).")
@click.option("--quiet/--no-quiet", "-q", help="No progress.")
@config.with_needs
@click.pass_obj
def evaluate(
    file: Path | None,
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
    needs: Needs,
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

    if file and not quiet:
        click.echo(f"settings: {file}", err=True)
    dataset = shipped.load(data, split)
    folder = out or Path("out") / (re.sub(r"[^\w.-]+", "-", dataset.about.name).strip(".-") or "dataset")
    board = runner.evaluate(
        dataset,
        models or catalog.DEFAULT_MODELS,
        dims=parse_dims(dims) if dims else None,
        metrics=[name for names in metrics for name in names.split(",")] or runner.DEFAULT_METRICS,
        out=folder,
        store_folder=store,
        threads=threads,
        force=force,
        progress=Silent() if quiet else console.Bars() if sys.stderr.isatty() else console.Lines(),
        needs=needs,
    )
    verdict = choose(board, needs)
    paths = write(board, folder, verdict)
    console.show(board, verdict, columns(board, verdict))
    click.echo(f"page: {paths['leaderboard.html']}")
    sys.exit(1 if board.failed else 0)


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
    from harness.check import save_baseline

    saved = save_baseline(result.load(folder), to, cells)
    click.echo(f"{to}: {', '.join(saved)}")


@main.command("check")
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

    Exit code 0: held. 1: regressed. 2: cannot be compared (other data, missing result, unreadable baseline).
    """
    from harness import check as gate
    from harness import result
    from reports import gate as report

    source = rules or file
    chosen = gate.read_rules(source) if source else ()
    if rules and not chosen:
        raise OptionError(f"{rules}: holds no rule; write them as [[rule]] tables")
    found = gate.check(result.load(folder), baseline, chosen, cell)
    for note in found.notes:
        click.echo(f"note: {note}")
    shown = [outcome for outcome in found.outcomes if outcome.regressed or outcome.slice == gate.ALL]
    for outcome in shown:
        click.echo(f"{'REGRESSED' if outcome.regressed else 'held     '} {report.sentence(outcome)}")
    if len(shown) < len(found.outcomes):
        click.echo(f"held      {len(found.outcomes) - len(shown)} slices")
    for query in found.fallen if found.regressed else ():
        click.echo(f"  fell: {query.query} {query.before:.3f} -> {query.now:.3f} {query.text!r}")
        click.echo(f"        before: {', '.join(query.found_before[:5])}")
        click.echo(f"        now:    {', '.join(query.found_now[:5])}")
    click.echo(report.verdict(found))
    if markdown:
        with markdown.open("a", encoding="utf-8") as summary:
            summary.write(report.markdown(found))
    for path, text in ((junit, report.junit(found)), (json, report.as_json(found))):
        if path:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if found.regressed else 0)


@main.command("diff")
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
    for path, text in ((markdown, report.markdown(found)), (json, report.as_json(found))):
        if path:
            path.write_text(text, encoding="utf-8")


@main.command("models")
def models() -> None:
    """List the providers, and the models that the catalog knows something of."""
    from harness import catalog

    for provider in catalog.providers():
        click.echo(catalog.describe(provider))
    click.echo("\nKnown to the catalog:")
    for name, known in sorted(catalog.entries().items()):
        dims = ", ".join(str(dim) for dim in known.mrl_dims)
        click.echo(f"{name}  licence {known.licence or '?'}" + (f"  Matryoshka dims {dims}" if dims else ""))


@main.command("datasets")
def datasets() -> None:
    """List the datasets that come with bakeoff."""
    from harness import beir, shipped

    for name in shipped.names():
        click.echo(f"{name}: {beir.read_about(shipped.root() / name).get('description', '')}")
