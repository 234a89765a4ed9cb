"""What was measured, as records and as files: one Arrow file a cell, and summary.json for the whole leaderboard."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import ResultError
from harness.files import whole_or_nothing
from harness.metrics import UNJUDGED, Floats

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
SUMMARY, EVIDENCE = "summary.json", "evidence.json"
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a cell cost; None means that it was not or could not be measured.

    Seconds of embedding are summed over the batches as they were run, also when the vectors came from the store.
    ``search_seconds`` is for all queries in one batch. ``alone_*`` are percentiles of the seconds that one query takes
    by itself, over a sample of the queries; ``scan_seconds_per_gb`` is how much longer that gets with each 1e9 bytes more
    in the index, where that is known: of exact ones. ``bytes`` is what the index holds; ``rescore_bytes`` are those of the vectors that
    order its shortlist anew, which may lie on disk. ``formula_bytes`` is what the index should hold by its layout.
    Tokens are counted before truncation, or are what the provider's replies say
    was used; ``tokens`` is those of documents and queries, ``usd`` that many at the list price. ``estimated_tokens`` and
    ``estimated_usd`` are what the same texts were expected to take before anything was sent. ``requests`` is how many requests to
    the provider were ever made for this dataset; ``lost_requests`` of them had no usable reply and were made again, and
    ``lost_usd`` may have been paid for those.
    """

    document_seconds: float | None = None
    query_seconds: float | None = None
    build_seconds: float | None = None
    search_seconds: float | None = None
    alone_embed_p50: float | None = None
    alone_embed_p95: float | None = None
    alone_search_p50: float | None = None
    alone_search_p95: float | None = None
    alone_search_p99: float | None = None
    scan_seconds_per_gb: float | None = None
    bytes: int | None = None
    formula_bytes: int | None = None
    rescore_bytes: int | None = None
    tokens: int | None = None
    document_tokens: int | None = None
    query_tokens: int | None = None
    truncated_documents: int | None = None
    usd: float | None = None
    estimated_tokens: int | None = None
    estimated_usd: float | None = None
    requests: int | None = None
    lost_requests: int | None = None
    lost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """One cell of the grid on one dataset: identity, raw rankings by document id, per-query scores, cost, environment.

    ``documents`` and ``grades`` hold one array per query, as long as its ranking; an unjudged document has grade
    ``metrics.UNJUDGED``. ``scores`` maps ``ndcg@10`` and the like to ``(queries,)`` float64. ``answer_cut`` says of each
    query whether an answer of the highest grade is longer than the model reads; None where that is not known.
    ``identity`` is SHA-256 over all that decides the numbers. ``neighbours`` is the share of the first 10
    documents of exact search over float32 vectors of the dimension that ranks (the native one after rescoring) that are found: what the
    index loses, not the model; None for such a search itself.
    """

    identity: str
    model: Mapping[str, Any]
    spec: str
    dim: int
    native_dim: int
    precision: str
    index: str
    trained: bool
    floor: bool
    device: str
    depth: int
    dataset: str
    fingerprint: Mapping[str, str]
    query_ids: tuple[str, ...]
    documents: tuple[NDArray[np.object_], ...]
    ranking_scores: tuple[NDArray[np.float32], ...]
    grades: tuple[NDArray[np.int32], ...]
    scores: Mapping[str, Floats]
    cost: Cost
    rescore: int = 0
    neighbours: float | None = None
    answer_cut: tuple[bool, ...] | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        means = ", ".join(f"{measure} {self.mean(measure):.4f}" for measure in self.scores)
        return f"<Result {self.name} on {self.dataset}: {means}>"

    @property
    def name(self) -> str:
        """Model and, for vectors, dimension and what is not plain about the search, as a reader would say it."""
        return f"{self.spec} @ {self.dim} {self.way}".rstrip() if self.dim else self.spec

    @property
    def way(self) -> str:
        """Precision, index and times of rescoring, those that are not as in the plain search; empty for that."""
        precision, index = self.precision.replace("float32", ""), "" if self.index == "Flat" else self.index
        return " ".join(filter(None, (precision, index, f"x{self.rescore}" if self.rescore else "")))

    @property
    def plain(self) -> bool:
        """Whether it is an exact search over float32 vectors, without a second stage."""
        return not self.way

    def mean(self, measure: str) -> float:
        """The mean over queries; raises ResultError for a measure that was not asked for."""
        if measure not in self.scores:
            raise ResultError(f"{self.name} has no {measure}; it has {', '.join(self.scores)}")
        return float(self.scores[measure].mean())


@dataclass(frozen=True, slots=True)
class Absence:
    """A model that gave no result: it ``failed``, or was ``skipped`` because what was asked does not apply to it."""

    spec: str
    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """What a check found of a model, in a sentence; ``warn`` where its figures should not be taken as they are."""

    spec: str
    text: str
    warn: bool


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, weakref_slot=True)
class Leaderboard:
    """The results of one run, best first by ``headline``, and the models that have none, with the reason.

    ``remarks``: what the prompt check found. ``slices``: what the queries are sliced by -> value -> query ids.
    ``tasks``: row of the table "choosing a model" -> ids of the queries that belong to it. ``queries``: query id -> text.
    ``documents``: id -> the beginning of the text, of those that are judged or were found. ``judgements``: query id ->
    document id -> grade. ``pictures``: "documents" and "queries" -> id -> a thumbnail as a data URL. ``needs``: those that the
    verdict in summary.json was made for, by name; empty where nothing was read.
    """

    dataset: Mapping[str, Any]
    headline: str
    results: tuple[Result, ...]
    absences: tuple[Absence, ...] = ()
    remarks: tuple[Remark, ...] = ()
    slices: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    tasks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    judgements: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    folder: Path | None = None

    def __repr__(self) -> str:
        return f"<Leaderboard of {self.dataset['name']}: {len(self.results)} results, {len(self.absences)} absences, by {self.headline}>"

    @property
    def failed(self) -> bool:
        """Whether any model failed."""
        return any(absence.status == "failed" for absence in self.absences)

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict a cell and one an absence, with the columns of summary.json; best first."""
        return [_row(result) for result in self.results] + [
            {"model": absence.spec, "status": absence.status, "reason": absence.reason} for absence in self.absences
        ]

    @property
    def frame(self) -> pandas.DataFrame:
        """The rows as a pandas DataFrame; measures and costs are columns."""
        import pandas

        frame = pandas.DataFrame([_flat(row) for row in self.rows()])
        whole = {name: "Int64" for name in _WHOLE_NUMBERS if name in frame}
        return frame.astype(whole)


def sort_results(results: Sequence[Result], headline: str) -> tuple[Result, ...]:
    """Best first; equal means by model, larger dimension, and the plain search first."""
    return tuple(sorted(results, key=lambda r: (-r.mean(headline), r.spec, -r.dim, not r.plain, r.name)))


def score_matrix(results: Sequence[Result], measure: str) -> Floats:
    """Per-query scores ``(queries, results)``, the queries in the first result's order."""
    if not results:
        return np.empty((0, 0))
    columns = []
    for result in results:
        place = {query: row for row, query in enumerate(result.query_ids)}
        columns.append(result.scores[measure][[place[query] for query in results[0].query_ids]])
    return np.stack(columns, axis=1)


def file_name(cell_identity: str, spec: str, dim: int) -> str:
    """A readable file name that two different cells never share."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", spec).strip("-.")[:80]
    return f"{words}-{f'{dim}-' if dim else ''}{cell_identity[:16]}.arrow"


def identity(parts: Mapping[str, Any]) -> str:
    """SHA-256 in hex of a JSON-able mapping."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write(result: Result, path: Path) -> None:
    """Write one cell as an Arrow (Feather) file: a line per query, everything else in the schema's metadata."""
    import pyarrow as pa
    from pyarrow import feather

    columns: dict[str, Any] = {
        "query": pa.array(result.query_ids, pa.string()),
        "documents": pa.array(result.documents, pa.list_(pa.string())),
        "scores": pa.array(result.ranking_scores, pa.list_(pa.float32())),
        "grades": _nullable(pa, result.grades),
    }
    if result.answer_cut is not None:
        columns["answer cut"] = pa.array(result.answer_cut, pa.bool_())
    columns |= {measure: pa.array(values, pa.float64()) for measure, values in result.scores.items()}
    head = {name: getattr(result, name) for name in _HEAD} | {"schema": SCHEMA, "cost": asdict(result.cost)}
    table = pa.table(columns).replace_schema_metadata({b"bakeoff": json.dumps(head).encode()})
    with whole_or_nothing(path) as half:
        feather.write_feather(table, half, compression="zstd")


def read(path: Path) -> Result:
    """Read what :func:`write` wrote; raises ResultError if it is missing, damaged, or of another schema."""
    import pyarrow as pa
    from pyarrow import feather

    try:
        table = feather.read_table(path, memory_map=False)
        head = json.loads((table.schema.metadata or {})[b"bakeoff"])
        if head.pop("schema") != SCHEMA:
            raise ResultError(f"{path}: written by another version of bakeoff; run the evaluation again with --force")
        present = [name for name in ("query", "documents", "scores", "grades", "answer cut") if name in table.column_names]
        columns = {name: table.column(name).to_pylist() for name in present}
        measures = [name for name in table.column_names if name not in columns]
        cost = Cost(**head.pop("cost"))
        return Result(
            **head,
            cost=cost,
            query_ids=tuple(columns["query"]),
            documents=tuple(np.array(ids, dtype=object) for ids in columns["documents"]),
            ranking_scores=tuple(np.array(scores, dtype=np.float32) for scores in columns["scores"]),
            grades=tuple(_sentinel(grades) for grades in columns["grades"]),
            answer_cut=tuple(columns["answer cut"]) if "answer cut" in columns else None,
            scores={name: table.column(name).to_numpy() for name in measures},
        )
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise ResultError(f"{path}: not a readable result ({error}); run the evaluation again with --force") from error


def check_writable(folder: Path) -> None:
    """Make the output folder; raises ResultError where results cannot be written there, before anything is measured."""
    try:
        (folder / "results").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder / "results"), tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResultError(f"{folder}: results cannot be written there ({error.strerror}); give another folder with --out") from error


def save(board: Leaderboard, folder: Path, verdict: Mapping[str, Any]) -> None:
    """Write evidence.json (texts and judgements) and summary.json; the results it names are already in ``folder``/results."""
    rows = board.rows()
    for row, result in zip(rows, board.results, strict=False):
        row["file"] = f"results/{file_name(result.identity, result.spec, result.dim)}"
    summary = {
        "schema": SCHEMA,
        "dataset": dict(board.dataset),
        "headline": board.headline,
        "verdict": verdict,
        "rows": rows,
        "prompts": [asdict(remark) for remark in board.remarks],
        "slices": board.slices,
        "tasks": board.tasks,
    }
    evidence = {"schema": SCHEMA, "queries": board.queries, "judgements": board.judgements, "documents": board.documents}
    evidence |= {"pictures": board.pictures} if board.pictures else {}
    with whole_or_nothing(folder / EVIDENCE) as half:
        half.write_text(json.dumps(evidence, separators=(",", ":")) + "\n", encoding="utf-8")
    with whole_or_nothing(folder / SUMMARY) as half:
        half.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def load(folder: str | Path) -> Leaderboard:
    """Read a leaderboard back from its output folder; raises ResultError if any part of it is unreadable."""
    folder = Path(folder)
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if summary["schema"] != SCHEMA:
            raise ResultError(f"{folder / SUMMARY}: schema {summary['schema']}, this bakeoff reads {SCHEMA}")
        evidence = json.loads((folder / EVIDENCE).read_text(encoding="utf-8"))
        if evidence["schema"] != SCHEMA:
            raise ResultError(f"{folder / EVIDENCE}: schema {evidence['schema']}, this bakeoff reads {SCHEMA}")
        rows, facts, headline = summary["rows"], summary["dataset"], summary["headline"]
        if not (isinstance(facts["name"], str) and isinstance(facts["fingerprint"], dict) and isinstance(headline, str)):
            raise TypeError("the dataset's name and fingerprint and the headline should be a string, an object and a string")
        return Leaderboard(
            dataset=facts,
            headline=headline,
            results=tuple(_asked(read(folder / row["file"]), row["metrics"]) for row in rows if row["status"] == "ok"),
            absences=tuple(Absence(r["model"], r["status"], r["reason"]) for r in rows if r["status"] != "ok"),
            remarks=tuple(Remark(**remark) for remark in summary.get("prompts", ())),
            slices={by: {value: tuple(ids) for value, ids in values.items()} for by, values in summary["slices"].items()},
            tasks={task: tuple(ids) for task, ids in summary["tasks"].items()},
            queries=evidence["queries"],
            documents=evidence["documents"],
            judgements=evidence["judgements"],
            needs=summary["verdict"].get("needs", {}),
            pictures=evidence.get("pictures", {}),
            folder=folder,
        )
    except FileNotFoundError as error:
        raise ResultError(f"{error.filename}: no such file; bakeoff eval makes a leaderboard's folder") from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        fix = "it is made by bakeoff eval"
        raise ResultError(f"{folder}: {SUMMARY} and {EVIDENCE} are not a readable leaderboard ({error!r}); {fix}") from error


def _asked(result: Result, measures: Mapping[str, float]) -> Result:
    """A result with only the measures of its row: its file also keeps those of earlier runs."""
    return replace(result, scores={name: result.scores[name] for name in measures})


_WHOLE_NUMBERS = (
    *(
        "dim",
        "native_dim",
        "rescore",
        "bytes",
        "formula_bytes",
        "rescore_bytes",
        "tokens",
        "document_tokens",
        "query_tokens",
        "truncated_documents",
    ),
    *("estimated_tokens", "requests", "lost_requests"),
)
_HEAD = (
    *("identity", "model", "spec", "dim", "native_dim", "precision", "index", "rescore", "neighbours", "trained", "floor"),
    *("device", "depth", "dataset", "fingerprint", "environment"),
)


def _row(result: Result) -> dict[str, Any]:
    return {
        "model": result.spec,
        "dim": result.dim or None,
        "native_dim": result.native_dim or None,
        "trained_dim": result.trained if result.dim else None,
        "precision": result.precision if result.dim else None,
        "index": result.index if result.dim else None,
        "rescore": result.rescore or None,
        "neighbours": result.neighbours,
        "device": result.device,
        "floor": result.floor,
        "metrics": {measure: result.mean(measure) for measure in result.scores},
        "cost": asdict(result.cost),
        "licence": result.model.get("licence", ""),
        "identity": result.identity,
        "status": "ok",
    }


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(filter(lambda item: item[0] not in ("metrics", "cost"), row.items()), **row.get("metrics", {}), **row.get("cost", {}))


def _nullable(pa: Any, grades: Sequence[NDArray[np.int32]]) -> Any:
    """An Arrow list of grades for each query, null where there is no judgement."""
    flat, ends = np.concatenate([[], *grades]).astype(np.int32), np.cumsum([0, *map(len, grades)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat, pa.int32(), mask=flat == UNJUDGED))


def _sentinel(grades: Sequence[int | None]) -> NDArray[np.int32]:
    return np.array([UNJUDGED if grade is None else grade for grade in grades], dtype=np.int32)
