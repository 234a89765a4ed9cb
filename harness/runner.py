"""The one flow: dataset and models in, a leaderboard out.

Each model's texts are embedded once, batch by batch into the store; every cell of the grid is then a view of the
stored native vectors. A model that fails becomes a row that says why, and the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import catalog, evidence, prompts, result, shipped, store, tokens, vectors
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.embedder import Embedder, Model
from harness.environment import cache_folder, environment
from harness.errors import HarnessError, ModelError, OptionError
from harness.experiment import Dim, System, Variant, grid
from harness.filling import ALONE, ALONE_SECONDS, FEWEST_ALONE, fill, items
from harness.index import NOTHING, Index, Ranking, default_threads, seconds_per_gb
from harness.keys import redact
from harness.ledger import Ledger
from harness.metrics import Measure, score
from harness.pair import of
from harness.plan import ROLES, expected, forecast, list_price
from harness.progress import Progress, Silent
from harness.result import Absence, Cost, Leaderboard, Remark, Result, Status
from harness.scale import Needs
from harness.slices import slices, tasks
from harness.store import Stored, VectorStore
from harness.verdict import choose

DEFAULT_METRICS = ("ndcg@10", "recall@10", "recall@100", "mrr@10")
MIN_DEPTH = 100
_PROMPT_QUERIES, _FEWEST_PROMPT_QUERIES = 300, 100  # that prompts are checked with; with fewer, not unasked
_PROMPT_SHARE, _PROMPT_SECONDS = 0.05, 5.0  # of the seconds of embedding, and in any case: what checking unasked may add
_SEARCHES, _SLOW_SEARCH = 3, 0.5  # repeats; seconds from which a search is not repeated
Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Run:
    """What stays the same for all models of one call."""

    dataset: Dataset
    store: VectorStore
    measures: tuple[Measure, ...]
    dims: Sequence[Dim] | None
    depth: int
    threads: int
    out: Path | None
    force: bool
    progress: Progress
    ledger: Ledger
    check_prompts: bool | None = None


def evaluate(
    dataset: Dataset | str | Path,
    models: str | Sequence[str | Embedder | System] = catalog.DEFAULT_MODELS,
    *,
    split: str = "test",
    dims: Sequence[Dim] | None = None,
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
    dimension a model was trained for. ``metrics`` are texts such as ``ndcg@10``. Vectors are kept in ``store_folder``
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
    run = _Run(
        dataset=data,
        store=vector_store,
        measures=measures,
        dims=dims,
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


def _evaluate_all(run: _Run, models: Iterable[str | Embedder | System]) -> tuple[list[Result], list[Absence]]:
    results: dict[str, Result] = {}
    absences: list[Absence] = []
    for model in models:
        spec = model if isinstance(model, str) else str(model.model)
        try:
            system = catalog.load(model, run.dataset.about.instructions) if isinstance(model, str) else model
            absences += [Absence(spec, "skipped", reason) for reason in _too_large(run, system.model)]
            for cell in _evaluate(run, spec, system):
                if (same := results.setdefault(cell.identity, cell)).spec != spec:
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


def _check_prompts(run: _Run, models: Sequence[str | Embedder | System], costs: Mapping[str, Cost]) -> list[Remark]:
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


def _affordable(run: _Run, model: Model, cost: Cost) -> int:
    """How many queries a check that nobody asked for may take."""
    took = cost.query_seconds or 0.0
    may = max(_PROMPT_SECONDS, _PROMPT_SHARE * (took + (cost.document_seconds or 0.0)))
    return int(may / max(prompts.seconds(model, 1, took / len(run.dataset.queries)), 1e-9))


def _too_large(run: _Run, model: Model) -> list[str]:
    dims = [dim for dim in run.dims or () if dim != "native" and model.dim and dim > model.dim]
    return [f"dim {dim} is larger than the native {model.dim}" for dim in dims]


def _evaluate(run: _Run, spec: str, system: Embedder | System) -> Iterator[Result]:
    model = system.model
    dims = run.dims and [dim for dim in run.dims if dim == "native" or dim <= (model.dim or dim)]
    variants = grid(model, dims) if dims or run.dims is None else []
    identities = {variant: _identity(run, model, variant) for variant in variants}
    stored: _Vectors | None = None
    reused = 0
    for variant, cell in identities.items():
        path = run.out / "results" / result.file_name(cell, spec, variant.dim) if run.out else None
        known = result.read(path) if path and path.exists() and not run.force else None
        done = known
        reused += known is not None
        if done is None:
            if isinstance(system, System):
                ranking, cost, device = _ask(run, system)
            else:
                stored = stored or _vectors(run, spec, system)
                ranking, cost, device = _search(run, model, variant, stored)
            done = _result(run, spec, model, variant, cell, ranking, cost, device)
            if stored and cost.truncated_documents is not None:
                too_long = stored.lengths > (model.max_tokens or np.iinfo(np.int64).max)
                done = replace(done, answer_cut=tuple(bool(too_long[best].any()) for best in run.dataset.judgements.best()))
        elif not {str(measure) for measure in run.measures} <= set(done.scores):
            done = replace(done, scores={**done.scores, **_scores(run, _ranked_rows(run.dataset, done))})
        if path is not None and done is not known:
            result.write(done, path)
        yield replace(done, spec=spec, scores={str(measure): done.scores[str(measure)] for measure in run.measures})
    if reused:
        run.progress.note(f"{spec}: {reused} of {len(variants)} cells were finished before (--force measures them again)")


def _identity(run: _Run, model: Model, variant: Variant) -> str:
    return result.identity(
        {
            "schema": result.SCHEMA,
            "dataset": list(run.dataset.fingerprint),
            "model": model.digest(),
            "variant": [variant.dim, variant.precision, variant.index],
            "depth": run.depth,
        }
    )


class _Vectors(NamedTuple):
    """What the store holds of a dataset for one model. ``lengths`` ``(documents,)`` are tokens before anything is cut, -1 where unknown;
    ``billed`` are fields of Cost that only models behind an API have.
    """

    documents: Stored
    queries: Stored
    lengths: NDArray[np.int64]
    billed: dict[str, Any]


def _vectors(run: _Run, spec: str, system: Embedder) -> _Vectors:
    remote = isinstance(embedder := of(system, "document"), Remote)
    if remote and (plan := forecast(run.store, spec, system, run.dataset)).texts:
        run.progress.note(plan.sentence())
    for role in ROLES if remote else ():
        run.ledger.purse(of(system, role).model)  # before the one is paid for, the other must have a price too
    documents, queries = (fill(run.ledger, run.progress, spec, of(system, role), run.dataset, role) for role in ROLES)
    billed = expected(run.ledger, system, run.dataset)
    lengths = tokens.count(embedder.model, items(run.dataset, "document"), "document") if remote else documents.tokens
    return _Vectors(documents, queries, lengths, billed)


def _search(run: _Run, model: Model, variant: Variant, stored: _Vectors) -> tuple[Ranking, Cost, str]:
    documents, queries = stored.documents, stored.queries
    began = time.perf_counter()
    index = Index.build(documents.matrix, variant.dim, run.threads)
    built = time.perf_counter()
    asked, tie_order = vectors.truncate(queries.matrix, variant.dim), run.dataset.tie_order()
    ranking, seconds = _timed(lambda: index.search(asked, run.depth, tie_order))
    alone = _search_alone(index, asked, np.flatnonzero(queries.alone), run.depth, tie_order)
    used = [int(role.tokens.sum()) if (role.tokens >= 0).all() else None for role in (documents, queries)]
    cut = int((stored.lengths > model.max_tokens).sum()) if model.max_tokens else 0
    in_batches = queries.seconds[~queries.alone] if not queries.alone.all() else queries.seconds
    cost = Cost(
        document_seconds=float(documents.seconds.sum()),
        query_seconds=float(in_batches.mean() * len(queries.seconds)),
        build_seconds=built - began,
        search_seconds=seconds,
        alone_embed_p50=_percentile(queries.seconds[queries.alone], 50),
        alone_embed_p95=_percentile(queries.seconds[queries.alone], 95),
        alone_search_p50=_percentile(alone, 50),
        alone_search_p95=_percentile(alone, 95),
        scan_seconds_per_gb=seconds_per_gb(run.threads),
        bytes=index.nbytes,
        tokens=None if used[0] is None or used[1] is None else used[0] + used[1],
        document_tokens=used[0],
        query_tokens=used[1],
        truncated_documents=cut if (stored.lengths >= 0).all() else None,
        **({"usd": list_price(model, *used)} | stored.billed),
    )
    return ranking, cost, index.device


def _search_alone(index: Index, asked: vectors.Matrix, sample: NDArray[np.int64], depth: int, tie_order: NDArray[np.int64]) -> Seconds:
    """The seconds of searching for one query by itself, for a sample of the queries; the first only warms up."""
    rows = sample if len(sample) else np.arange(len(asked))
    taken: list[float] = []
    for row in (rows[0], *rows[:: max(1, len(rows) // ALONE)][:ALONE]):
        began = time.perf_counter()
        index.search(asked[row : row + 1], depth, tie_order)
        taken.append(time.perf_counter() - began)
        if sum(taken) > ALONE_SECONDS and len(taken) > FEWEST_ALONE:
            break
    return np.array(taken[1:])


def _percentile(seconds: Seconds, share: float) -> float | None:
    return float(np.percentile(seconds, share)) if len(seconds) else None


def _timed(search: Callable[[], Ranking]) -> tuple[Ranking, float]:
    """The ranking, and the least seconds of three searches: the first one starts threads. Slow ones are run once."""
    best = float("inf")
    for _ in range(_SEARCHES):
        began = time.perf_counter()
        ranking = search()
        best = min(best, time.perf_counter() - began)
        if best > _SLOW_SEARCH:
            break
    return ranking, best


def _ask(run: _Run, system: System) -> tuple[Ranking, Cost, str]:
    began = time.perf_counter()
    ranking = system.rank(run.dataset, run.depth)
    return ranking, Cost(search_seconds=time.perf_counter() - began), "cpu"


def _scores(run: _Run, rows: Any) -> dict[str, Any]:
    return {str(measure): values for measure, values in score(run.dataset.judgements, rows, run.measures).items()}


def _ranked_rows(dataset: Dataset, known: Result) -> Any:
    """The document rows ``(queries, depth)`` of a stored ranking, padded with NOTHING."""
    rows = {document.id: row for row, document in enumerate(dataset.documents)}
    where = {query: line for line, query in enumerate(known.query_ids)}
    ranked = np.full((len(dataset.queries), known.depth), NOTHING, dtype=np.int64)
    for line, query in enumerate(dataset.queries):
        ids = known.documents[where[query.id]]
        ranked[line, : len(ids)] = [rows[document] for document in ids]
    return ranked


def _result(run: _Run, spec: str, model: Model, variant: Variant, cell: str, ranking: Ranking, cost: Cost, device: str) -> Result:
    ids = np.array([document.id for document in run.dataset.documents], dtype=object)
    grades = run.dataset.judgements.grade(ranking.rows)
    found = [line[line != NOTHING] for line in ranking.rows]
    return Result(
        identity=cell,
        model={name: value for name, value in asdict(model).items() if name != "tokenizer"},  # a place on this machine
        spec=spec,
        dim=variant.dim,
        native_dim=model.dim,
        precision=variant.precision,
        index=variant.index,
        trained=variant.trained,
        floor=spec in catalog.FLOORS,
        device=device,
        depth=run.depth,
        dataset=run.dataset.about.name,
        fingerprint=run.dataset.fingerprint._asdict(),
        query_ids=tuple(query.id for query in run.dataset.queries),
        documents=tuple(ids[line] for line in found),
        ranking_scores=tuple(scores[: len(line)] for scores, line in zip(ranking.scores, found, strict=True)),
        grades=tuple(line_grades[: len(line)] for line_grades, line in zip(grades, found, strict=True)),
        scores=_scores(run, ranking.rows),
        cost=cost,
        environment=environment() | {"threads": run.threads, "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
    )
