"""The one flow: dataset and models in, a leaderboard out.

Each model's texts are embedded once, batch by batch into the store; every cell of the grid is then a view of the
stored native vectors. A model that fails becomes a row that says why, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness import catalog, evidence, prompts, result, shipped, store
from harness.codes import default_threads
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.embedder import Embedder, Model
from harness.environment import cache_folder
from harness.errors import HarnessError, ModelError, OptionError
from harness.experiment import Dim, Grid, System
from harness.filling import items
from harness.keys import redact
from harness.ledger import Ledger
from harness.measuring import ModelRun, Run
from harness.metrics import Measure
from harness.progress import Progress, Silent
from harness.result import Absence, Cost, Leaderboard, Remark, Result, Status
from harness.scale import Needs
from harness.slices import slices, tasks
from harness.store import VectorStore
from harness.verdict import choose

DEFAULT_METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
MIN_DEPTH = 100
_PROMPT_QUERIES, _FEWEST_PROMPT_QUERIES = 300, 100  # that prompts are checked with; with fewer, not unasked
_PROMPT_SHARE, _PROMPT_SECONDS = 0.05, 5.0  # of the seconds of embedding, and in any case: what checking unasked may add


def evaluate(
    dataset: Dataset | str | Path,
    models: str | Sequence[str | Embedder | System] = catalog.DEFAULT_MODELS,
    *,
    split: str = "test",
    dims: Sequence[Dim] | None = None,
    precisions: Sequence[str] = ("float32",),
    rescore: Sequence[int] = (),
    indexes: Sequence[str] = (),
    metrics: Sequence[str] = DEFAULT_METRICS,
    out: str | Path | None = None,
    store_folder: str | Path | None = None,
    threads: int | None = None,
    force: bool = False,
    floors: bool = True,
    needs: Needs | None = None,
    budget: float | None = None,
    check_prompts: bool | None = None,
    progress: Progress | None = None,
) -> Leaderboard:
    """Measure models on a dataset; the first of ``metrics`` ranks the leaderboard.

    ``dataset`` is a Dataset, a folder in BEIR layout, or a shipped name; ``models`` are specs such as
    ``st/org/name``, or objects with the Embedder or System protocol. ``dims`` are numbers or "native"; None takes every
    dimension a model was trained for. ``precisions``, ``rescore`` and ``indexes`` add cells of the same vectors (harness.experiment.Grid).
    ``metrics`` are texts such as ``ndcg@10``. Vectors are kept in ``store_folder``
    (by default in the user's cache). ``threads`` is for searching. The floors (BM25, random) are added unless
    ``floors`` is False. ``needs`` are the user's scale and constraints, for the verdict. With ``out``, finished cells are
    written there, and read instead of computed again unless ``force``; ``reports.write`` makes the pages. ``budget`` is the
    most USD that this dataset may ever cost at providers, earlier runs with the same store included. ``check_prompts`` holds
    each model's query prompt against others (harness/prompts.py); None does so where it is cheap. ``progress`` hears of long work
    (harness/progress.py).

    Raises HarnessError for wrong options, specs or data; a failing model is an Absence in the leaderboard.
    """
    measures = tuple(dict.fromkeys(Measure.parse(text) for text in metrics))
    if not measures:
        raise OptionError("no metric was given; write for instance ndcg@10")
    data = dataset if isinstance(dataset, Dataset) else shipped.load(dataset, split)
    chosen = [models] if isinstance(models, str) else list(models)
    for model in chosen:
        _check_spec(model, data.about.instructions)
    if out is not None:
        result.check_writable(Path(out))
    vector_store = VectorStore(Path(store_folder) if store_folder else cache_folder() / "store")
    run = Run(
        dataset=data,
        store=vector_store,
        measures=measures,
        grid=Grid(dims=dims, precisions=precisions, rescore=rescore, indexes=indexes),
        depth=max(MIN_DEPTH, *(measure.cutoff for measure in measures)),
        threads=threads or default_threads(),
        out=Path(out) if out is not None else None,
        force=force,
        progress=progress or Silent(),
        ledger=Ledger(vector_store, data.about.name, budget),
        check_prompts=check_prompts,
    )
    try:
        results, absences = _evaluate_all(run, _with_floors(chosen) if floors else chosen)
        remarks = _check_prompts(run, chosen, {one.spec: one.cost for one in results})
    finally:
        vector_store.close()
    headline, shown = str(measures[0]), evidence.shown(data, results)
    board = Leaderboard(
        dataset=data.facts(),
        headline=headline,
        results=result.sort_results(results, headline),
        absences=tuple(absences),
        remarks=tuple(remarks),
        slices=slices(data, results),
        tasks=tasks(data),
        queries={query.id: query.text for query in data.queries},
        documents=evidence.beginnings(shown),
        pictures=evidence.pictures(data, shown),
        judgements=data.qrels(),
        folder=run.out,
    )
    if run.out is not None:
        result.save(board, run.out, choose(board, needs).summary())
    return board


def _check_spec(model: str | Embedder | System, instructions: Mapping[str, str]) -> None:
    """Raise OptionError for a spec that names nothing; what it names may still be missing, and is then a failed row."""
    if isinstance(model, str):
        with suppress(ModelError):
            catalog.load(model, instructions)


def _with_floors(models: Sequence[str | Embedder | System]) -> list[str | Embedder | System]:
    return [*(floor for floor in catalog.FLOORS if floor not in models), *models]


def _evaluate_all(run: Run, models: Iterable[str | Embedder | System]) -> tuple[list[Result], list[Absence]]:
    results: dict[str, Result] = {}
    absences: list[Absence] = []
    for model in models:
        spec = model if isinstance(model, str) else str(model.model)
        try:
            system = catalog.load(model, run.dataset.about.instructions) if isinstance(model, str) else model
            absences += [Absence(spec, "skipped", reason) for reason in _too_large(run, system.model)]
            for cell in ModelRun(run, spec, system).cells():
                if isinstance(cell, Absence):
                    absences.append(cell)
                elif (same := results.setdefault(cell.identity, cell)).spec != spec:
                    absences.append(Absence(f"{spec} @ {cell.dim}", "skipped", f"is the very same as {same.name}"))
        except HarnessError as error:
            status: Status = "skipped" if spec in catalog.FLOORS else "failed"  # as BM25 on a corpus of pictures
            absences.append(Absence(spec, status, redact(str(error)).removeprefix(f"{spec}: ")))
        except ImportError as error:
            absences.append(Absence(spec, "failed", catalog.needs_package(error)))
        except MemoryError as error:
            absences.append(Absence(spec, "failed", f"out of memory: {error}"))
        except Exception as error:  # noqa: BLE001 - whatever a model's own code raises must not stop the others
            line = redact((str(error).splitlines() or [""])[0])
            absences.append(Absence(spec, "failed", f"{type(error).__name__}: {line}"))
        if absences and absences[-1].spec == spec:
            run.progress.note(f"{spec}: {absences[-1].status}: {absences[-1].reason}")
    return list(results.values()), absences


def _check_prompts(run: Run, models: Sequence[str | Embedder | System], costs: Mapping[str, Cost]) -> list[Remark]:
    """Hold each model's query prompt against others on some queries and all documents, whose vectors are there already.

    Unasked, only where that adds little to what was done anyway, and where nobody is paid for it.
    """
    remarks = []
    for spec in dict.fromkeys(model for model in models if isinstance(model, str)):
        if run.check_prompts is False or spec not in costs:
            continue
        try:
            system = catalog.load(spec, run.dataset.about.instructions)
            if prompts.unfit(spec, system) or not isinstance(system, Embedder):
                continue
            unasked = run.check_prompts is None
            if unasked and isinstance(system, Remote):
                continue
            queries = min(_PROMPT_QUERIES, _affordable(run, system.model, costs[spec])) if unasked else _PROMPT_QUERIES
            if queries < min(_FEWEST_PROMPT_QUERIES, len(run.dataset.queries)):
                continue
            if unasked and run.store.missing(store.keys(system.model, "document", items(run.dataset, "document"))):
                continue  # all cells were finished before, and their vectors are gone
            part = prompts.only_queries(run.dataset, queries)
            found = prompts.check(spec, system, part, run.ledger, queries_only=True, progress=run.progress, threads=run.threads)
        except Exception as error:  # noqa: BLE001 - the figures stand, whatever the check meets
            run.progress.note(f"{spec}: prompts not checked: {redact(str(error))}")
            continue
        if not found.skipped:
            remarks.append(Remark(spec, found.sentence(), found.warn))
        if found.warn:
            run.progress.note(f"{spec}: {found.sentence()}")
    return remarks


def _affordable(run: Run, model: Model, cost: Cost) -> int:
    """How many queries a check that nobody asked for may take."""
    took = cost.query_seconds or 0.0
    may = max(_PROMPT_SECONDS, _PROMPT_SHARE * (took + (cost.document_seconds or 0.0)))
    return int(may / max(prompts.seconds(model, 1, took / len(run.dataset.queries)), 1e-9))


def _too_large(run: Run, model: Model) -> list[str]:
    dims = [dim for dim in run.grid.dims or () if dim != "native" and model.dim and dim > model.dim]
    return [f"dim {dim} is larger than the native {model.dim}" for dim in dims]
