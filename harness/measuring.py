"""One model on one dataset: its cells, read where they were finished before, else measured from vectors that are embedded once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import catalog, result, tokens
from harness.cells import Measured, Shelf, percentile
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.embedder import Embedder, Model
from harness.environment import environment
from harness.errors import ModelError
from harness.experiment import Grid, System, Variant
from harness.filling import fill, items
from harness.index import NOTHING
from harness.ledger import Ledger
from harness.metrics import Measure, score
from harness.pair import of
from harness.plan import ROLES, expected, forecast, list_price
from harness.progress import Progress
from harness.result import Absence, Cost, Result
from harness.store import Stored, VectorStore

_MUCH_MEMORY = 1e9  # bytes of an index from which on it is announced


@dataclass(frozen=True, slots=True)
class Run:
    """What stays the same for all models of one evaluation."""

    dataset: Dataset
    store: VectorStore
    measures: tuple[Measure, ...]
    grid: Grid
    depth: int
    threads: int
    out: Path | None
    force: bool
    progress: Progress
    ledger: Ledger
    check_prompts: bool | None = None


class _Vectors(NamedTuple):
    """What the store holds of a dataset for one model. ``lengths`` ``(documents,)`` are tokens before anything is cut, -1 where unknown;
    ``billed`` are fields of Cost that only models behind an API have.
    """

    documents: Stored
    queries: Stored
    lengths: NDArray[np.int64]
    billed: dict[str, Any]


class ModelRun:
    """One model of an evaluation; what its cells share is made when the first of them needs it."""

    def __init__(self, run: Run, spec: str, system: Embedder | System) -> None:
        self._run, self._spec, self._system, self._model = run, spec, system, system.model
        self._refused: set[tuple[int, str]] = set()

    def cells(self) -> Iterator[Result | Absence]:
        """Every cell, and for those that cannot be measured why not; raises HarnessError for what stops all of them."""
        run, variants, reused = self._run, self._variants(), 0
        for variant in variants:
            identity = _identity(run, self._model, variant)
            path = run.out / "results" / result.file_name(identity, self._spec, variant.dim) if run.out else None
            known = result.read(path) if path and path.exists() and not run.force else None
            done: Result | Absence | None = known or self._measured(variant, identity)
            if not isinstance(done, Result):
                if done is not None:
                    yield done
                continue
            if not {str(measure) for measure in run.measures} <= set(done.scores):
                done = replace(done, scores={**done.scores, **_scores(run, _ranked_rows(run.dataset, done))})
            if path is not None and done is not known:
                result.write(done, path)
            reused += known is not None
            yield replace(done, spec=self._spec, scores={str(measure): done.scores[str(measure)] for measure in run.measures})
        if reused:
            run.progress.note(f"{self._spec}: {reused} of {len(variants)} cells were finished before (--force measures them again)")

    def _variants(self) -> list[Variant]:
        """The cells that the model has dimensions for."""
        wanted = self._run.grid
        if wanted.dims is not None:
            wanted = replace(wanted, dims=[dim for dim in wanted.dims if dim == "native" or dim <= (self._model.dim or dim)])
        return [] if wanted.dims == [] else wanted.cells(self._model, len(self._run.dataset.documents))

    def _measured(self, variant: Variant, identity: str) -> Result | Absence | None:
        """One cell measured, or why its index cannot be built; None for further cells of that index."""
        run, index = self._run, (variant.dim, variant.index.partition("?")[0])
        if isinstance(self._system, System):
            return _result(run, self._spec, self._model, variant, identity, _ask(run, self._system))
        if index in self._refused:
            return None
        try:
            if (needed := self._shelf.memory(variant)) > _MUCH_MEMORY:
                run.progress.note(f"{self._spec} @ {variant.dim} {variant.index}: its index takes about {needed / 1e9:.1f} GB of memory")
            found = self._shelf.measure(variant)
        except ModelError as error:
            if variant.index == "Flat":
                raise
            self._refused.add(index)
            return Absence(f"{self._spec} @ {variant.dim} {index[1]}", "skipped", str(error))
        done = _result(run, self._spec, self._model, variant, identity, replace(found, cost=self._with_embedding(found.cost)))
        if done.cost.truncated_documents is None:
            return done
        too_long = self._vectors.lengths > (self._model.max_tokens or np.iinfo(np.int64).max)
        return replace(done, answer_cut=tuple(bool(too_long[best].any()) for best in run.dataset.judgements.best()))

    @cached_property
    def _vectors(self) -> _Vectors:
        run, system = self._run, self._system
        assert isinstance(system, Embedder)
        remote = isinstance(embedder := of(system, "document"), Remote)
        if remote and (plan := forecast(run.store, self._spec, system, run.dataset)).texts:
            run.progress.note(plan.sentence())
            for role in ROLES:
                run.ledger.purse(of(system, role).model)  # before the one is paid for, the other must have a price too
        documents, queries = (fill(run.ledger, run.progress, self._spec, of(system, role), run.dataset, role) for role in ROLES)
        billed = expected(run.ledger, system, run.dataset)
        lengths = tokens.count(embedder.model, items(run.dataset, "document"), "document") if remote else documents.tokens
        return _Vectors(documents, queries, lengths, billed)

    @cached_property
    def _shelf(self) -> Shelf:
        run, documents, queries = self._run, self._vectors.documents, self._vectors.queries
        return Shelf(
            documents.matrix,
            queries.matrix,
            run.dataset.tie_order(),
            depth=run.depth,
            cutoff=run.measures[0].cutoff,
            threads=run.threads,
            alone=np.flatnonzero(queries.alone),
        )

    def _with_embedding(self, cost: Cost) -> Cost:
        """The cost of a search with that of embedding, as it was when it was done."""
        model, (documents, queries, lengths, billed) = self._model, self._vectors
        used = [int(role.tokens.sum()) if (role.tokens >= 0).all() else None for role in (documents, queries)]
        cut = int((lengths > model.max_tokens).sum()) if model.max_tokens else 0
        in_batches = queries.seconds[~queries.alone] if not queries.alone.all() else queries.seconds
        own: dict[str, Any] = {"usd": list_price(model, *used)} | billed
        return replace(
            cost,
            document_seconds=float(documents.seconds.sum()),
            query_seconds=float(in_batches.mean() * len(queries.seconds)),
            alone_embed_p50=percentile(queries.seconds[queries.alone], 50),
            alone_embed_p95=percentile(queries.seconds[queries.alone], 95),
            tokens=None if used[0] is None or used[1] is None else used[0] + used[1],
            document_tokens=used[0],
            query_tokens=used[1],
            truncated_documents=cut if (lengths >= 0).all() else None,
            **own,
        )


def _identity(run: Run, model: Model, variant: Variant) -> str:
    """Of the size of a shortlist, not of the number that it is a multiple of: that depends on which measure comes first."""
    stage = [variant.rescore * run.measures[0].cutoff] if variant.rescore else []
    return result.identity(
        {
            "schema": result.SCHEMA,
            "dataset": list(run.dataset.fingerprint),
            "model": model.digest(),
            "variant": [variant.dim, variant.precision, variant.index, *stage],
            "depth": run.depth,
        }
    )


def _ask(run: Run, system: System) -> Measured:
    began = time.perf_counter()
    ranking = system.rank(run.dataset, run.depth)
    return Measured(ranking, "cpu", None, Cost(search_seconds=time.perf_counter() - began))


def _scores(run: Run, rows: Any) -> dict[str, Any]:
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


def _result(run: Run, spec: str, model: Model, variant: Variant, cell: str, found: Measured) -> Result:
    ids = np.array([document.id for document in run.dataset.documents], dtype=object)
    grades = run.dataset.judgements.grade(found.ranking.rows)
    ranking = found.ranking
    lines = [line[line != NOTHING] for line in ranking.rows]
    return Result(
        identity=cell,
        model={name: value for name, value in asdict(model).items() if name != "tokenizer"},  # a place on this machine
        spec=spec,
        dim=variant.dim,
        native_dim=model.dim,
        precision=variant.precision,
        index=variant.index,
        rescore=variant.rescore,
        neighbours=found.neighbours,
        trained=variant.trained,
        floor=spec in catalog.FLOORS,
        device=found.device,
        depth=run.depth,
        dataset=run.dataset.about.name,
        fingerprint=run.dataset.fingerprint._asdict(),
        query_ids=tuple(query.id for query in run.dataset.queries),
        documents=tuple(ids[line] for line in lines),
        ranking_scores=tuple(scores[: len(line)] for scores, line in zip(ranking.scores, lines, strict=True)),
        grades=tuple(line_grades[: len(line)] for line_grades, line in zip(grades, lines, strict=True)),
        scores=_scores(run, ranking.rows),
        cost=found.cost,
        environment=environment() | {"threads": run.threads, "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
    )
