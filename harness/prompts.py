"""The prompt check: would another prompt than the configured one rank better? On a sample, through the store, with a test.

A wrong prompt costs up to 0.4 nDCG and gives no sign. So a model is measured on a sample of queries and documents with its own prompts
and with others: none, the two swapped, one of them alone, and those that the known families were trained with. Another prompt is
held to be better only if it ranks the relevant documents higher and that is no chance, with a family-wise error of 1 % (``ALPHA``), and
its nDCG@10 is higher by ``LEAST`` and, at the lower end of its 95 % interval, higher at all: a check that stands in every run must
not cry wolf in one of twenty.

What is tested is the mean logarithm of the ranks, since nDCG@10 hears of nothing behind rank 10 and little is there in a sample: most
queries tie. A rank grows about in proportion to the documents, so a sample shows the same differences of logarithms as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import catalog, stats, vectors
from harness.codes import default_threads
from harness.dataset import Dataset
from harness.dispatch import Remote
from harness.embedder import Embedder, Model, Role
from harness.errors import ModelError
from harness.experiment import System
from harness.filling import fill
from harness.index import Index
from harness.ledger import Ledger
from harness.metrics import Floats, Judgements, Measure, score
from harness.pair import Pair
from harness.progress import Progress, Silent

LEAST = 0.01
"""What another prompt must gain at least, in nDCG@10: less is not worth a warning, and small true gains are many."""
ALPHA = 0.01
"""The chance of a warning where no other prompt ranks the relevant documents higher."""
QUERIES, DOCUMENTS = 300, 1000
FEWEST = 20
"""With fewer queries nothing is said: even the same sign in all of them could be chance."""
_JUDGED_OF_A_QUERY, _NEAR = 10, 10  # the most judged documents kept of a query; documents near it by BM25
_POOL = 20_000  # documents among which BM25 looks
_MEASURE = Measure("ndcg", 10)
_DEEPEST = 100  # ranks behind it count as the next one
_HEARD = 1e-5  # vectors closer than this, in every number, are the same
_DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
_SEARCH = "Represent this sentence for searching relevant passages: "
_CHINESE_SEARCH = "为这个句子生成表示以用于检索相关文章："

KNOWN: tuple[tuple[str, str, str], ...] = (
    ("as e5", "query: ", "passage: "),
    ("as nomic", "search_query: ", "search_document: "),
    ("as bge, mxbai, arctic", _SEARCH, ""),
    ("as bge-zh", _CHINESE_SEARCH, ""),
    ("as arctic 2", "query: ", ""),
    ("as Qwen3, e5-instruct", f"Instruct: {catalog.HOLE}\nQuery: ", ""),
    ("as embeddinggemma", "task: search result | query: ", "title: none | text: "),
)
"""The prompts that families of models were trained with, by their model cards: name, query's, document's."""


class Prompts(NamedTuple):
    """What is put in front of queries and of documents."""

    query: str = ""
    document: str = ""

    def __str__(self) -> str:
        """Both as a reader sees them: in quotes, with line breaks visible."""
        return " / ".join("–" if not text else '"' + text.replace("\n", "\\n") + '"' for text in self)


@dataclass(frozen=True, slots=True)
class Trial:
    """The model with one pair of prompts: mean nDCG@10 with its 95 % interval over the sampled queries.

    ``gain`` compares it with the configured prompts, and ``p`` is the one-sided p-value of higher ranks of the relevant documents, adjusted
    for all trials (Holm); both are None for the configured ones. ``same`` names the roles that this prompt changes without
    changing their vectors.
    """

    label: str
    prompts: Prompts
    mean: float
    low: float
    high: float
    gain: stats.Comparison | None = None
    p: float | None = None
    same: tuple[Role, ...] = ()

    @property
    def better(self) -> bool:
        """Whether it is better than the configured prompts, beyond what chance and small differences explain."""
        if self.gain is None or self.p is None:
            return False
        return self.p <= ALPHA and self.gain.difference >= LEAST and self.gain.low > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the check found of one model: its own prompts first, then the others, best first.

    ``skipped`` says why there is nothing to compare, and is empty where there is. ``unheard`` are the roles whose configured prompt makes
    no difference to any vector.
    """

    spec: str
    queries: int = 0
    documents: int = 0
    trials: tuple[Trial, ...] = ()
    unheard: tuple[Role, ...] = ()
    skipped: str = ""

    @property
    def best(self) -> Trial | None:
        """The best of the prompts that are better than the configured ones."""
        return next((trial for trial in self.trials[1:] if trial.better), None)

    @property
    def warn(self) -> bool:
        """Whether the model should not be measured as it is configured."""
        return self.best is not None or bool(self.unheard)

    def sentence(self) -> str:
        """What it comes to, in a sentence or two."""
        if self.skipped:
            return f"prompts not checked: {self.skipped}"
        own, said = self.trials[0], []
        if self.best and self.best.gain:
            gain = self.best.gain
            said.append(
                f"the prompts {self.best.prompts} ({self.best.label}) rank better than the configured {own.prompts}: nDCG@10"
                f" {self.best.mean:.3f} instead of {own.mean:.3f} ({gain.difference:+.3f}, 95 % {gain.low:+.3f} to {gain.high:+.3f})"
                f" on {self.queries} queries; as configured the model looks worse than it is. Try"
                f" {catalog.public(catalog.with_prompts(self.spec, *self.best.prompts))}"
            )
        if self.unheard:
            roles = " and ".join(f"{role}_prompt" for role in self.unheard)
            said.append(f"the configured {roles} changes no vector: it does not reach the model")
        if not said:
            said.append(f"no other prompt is known to be better than {own.prompts}, on {self.queries} queries")
        return "; ".join(said)


Make = Callable[[Prompts], Embedder]
"""Makes a model with prompts."""


def sample(dataset: Dataset, queries: int = QUERIES, documents: int = DOCUMENTS, seed: int = 0) -> Dataset:
    """Some queries with their judged documents (ten each at most), those near them by BM25, and others at random up to ``documents``.

    Documents near a query are what a prompt has to tell from the answer: among random ones any prompt does well.
    """
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.permutation(len(dataset.queries))[:queries])
    of_query, of_document, grades = _judged(dataset.judgements, asked)
    kept = dict.fromkeys(of_document.tolist())
    pool = rng.permutation(len(dataset.documents))
    order = np.concatenate([_near(dataset, asked, np.union1d(of_document, pool[:_POOL])), pool])
    kept |= dict.fromkeys(order.tolist()[: documents + len(kept)])
    rows = np.sort(list(kept)[: max(documents, len(set(of_document.tolist())))])
    judged = Judgements.build(of_query, np.searchsorted(rows, of_document), grades, len(asked))
    return _part(dataset, asked, judged, rows)


def _judged(judged: Judgements, asked: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """The best-graded pairs of the queries: places in ``asked``, document rows, grades."""
    places, rows, grades = [], [], []
    for place, query in enumerate(asked):
        pair = slice(judged.starts[query], judged.starts[query + 1])
        best = np.argsort(-judged.grades[pair], kind="stable")[:_JUDGED_OF_A_QUERY]
        places.append(np.full(len(best), place))
        rows.append(judged.documents[pair][best])
        grades.append(judged.grades[pair][best])
    return np.concatenate(places), np.concatenate(rows), np.concatenate(grades)


def _near(dataset: Dataset, asked: NDArray[np.int64], pool: NDArray[np.int64]) -> NDArray[np.int64]:
    """Document rows of the pool that share rare words with the queries, the first of each query first; none where there is no text."""
    none = np.zeros(0, dtype=np.int64)
    nobody = Judgements.build(none, none, none.astype(np.int32), len(asked))
    floor = catalog.load("bm25")
    assert isinstance(floor, System)
    try:
        ranked = floor.rank(_part(dataset, asked, nobody, pool), _NEAR).rows  # (queries, 10)
    except ModelError:
        return none
    found = ranked.T.ravel()
    return pool[found[found >= 0]]


def _part(dataset: Dataset, asked: NDArray[np.int64], judged: Judgements, rows: NDArray[np.int64] | None = None) -> Dataset:
    """Some queries, and some documents or all; the fingerprint stays the whole's and is not used."""
    documents = dataset.documents if rows is None else tuple(dataset.documents[row] for row in rows)
    return replace(dataset, documents=documents, queries=tuple(dataset.queries[row] for row in asked), judgements=judged)


def only_queries(dataset: Dataset, queries: int, seed: int = 0) -> Dataset:
    """Some queries with all documents."""
    asked = np.sort(np.random.default_rng(seed).permutation(len(dataset.queries))[:queries])
    judged = dataset.judgements
    place = np.full(len(dataset.queries), -1)
    place[asked] = np.arange(len(asked))
    wanted = place[judged.queries] >= 0
    pairs = (place[judged.queries][wanted], judged.documents[wanted], judged.grades[wanted])
    return _part(dataset, asked, Judgements.build(*pairs, len(asked)))


def alternatives(own: Prompts, instruction: str = "", *, queries_only: bool = False) -> dict[Prompts, str]:
    """What the configured prompts are held against -> what it is called. ``queries_only`` leaves the document's prompt as it is."""
    known = [(label, Prompts(query.replace(catalog.HOLE, instruction or _DEFAULT_TASK), document)) for label, query, document in KNOWN]
    found = [
        ("none", Prompts()),
        ("swapped", Prompts(own.document, own.query)),
        ("query's only", Prompts(own.query)),
        ("document's only", Prompts(document=own.document)),
        *known,
    ]
    if queries_only:
        found = [(label, Prompts(prompts.query, own.document)) for label, prompts in found]
    labels: dict[Prompts, str] = {}
    for label, prompts in found:
        if prompts != own:
            labels.setdefault(prompts, label)
    return labels


def unfit(spec: str, system: Embedder | System) -> str:
    """Why a model has no prompts to check; an empty string where it has."""
    if isinstance(system, System):
        return "it makes no vectors"
    if isinstance(system, Pair):
        return "it is a pair; check each of its two models"
    if catalog.takes_prompts(spec):
        return ""
    return "the API tells queries from documents by a switch of its own" if isinstance(system, Remote) else "it takes no prompts"


def check(
    spec: str,
    system: Embedder | System,
    part: Dataset,
    ledger: Ledger,
    *,
    queries_only: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Finding:
    """Check the model of a spec on a sample; what is missing of its vectors is embedded and stored. Raises HarnessError."""
    if why := unfit(spec, system):
        return Finding(spec=spec, skipped=why)
    assert isinstance(system, Embedder)
    instructions = part.about.instructions

    def make(prompts: Prompts) -> Embedder:
        embedder = catalog.load(catalog.with_prompts(spec, *prompts), instructions)
        assert isinstance(embedder, Embedder)
        return embedder

    own = Prompts(system.model.query_prompt, system.model.document_prompt)
    others = alternatives(own, instructions.get("query", ""), queries_only=queries_only)
    return compare(spec, system, make, others, part, ledger, progress or Silent(), threads)


def compare(
    spec: str,
    system: Embedder,
    make: Make,
    others: Mapping[Prompts, str],
    part: Dataset,
    ledger: Ledger,
    progress: Progress,
    threads: int | None = None,
) -> Finding:
    """Hold the prompts of a model against others, which ``make`` gives it."""
    if len(part.queries) < FEWEST:
        few = f"{len(part.queries)} queries are too few to tell prompts apart; it takes {FEWEST}"
        return Finding(spec=spec, queries=len(part.queries), documents=len(part.documents), skipped=few)
    own = Prompts(system.model.query_prompt, system.model.document_prompt)
    labels = {own: "as configured", **others}
    order = sorted(labels, key=lambda prompts: (prompts != own, prompts.document != own.document, prompts.document))
    bench = _Bench(spec, make, part, ledger, progress, threads or default_threads())
    measured = list(bench.measure([(prompts, labels[prompts]) for prompts in order], system))
    trials = _trials(measured)
    silent = {role for role in _ROLES if _unheard(role, own, measured)}
    best_first = sorted(trials[1:], key=lambda trial: (not trial.better, -trial.mean, trial.label))
    unheard = tuple(role for role in _ROLES if role in silent)
    return Finding(spec=spec, queries=len(part.queries), documents=len(part.documents), trials=(trials[0], *best_first), unheard=unheard)


_ROLES: tuple[Role, ...] = ("query", "document")


class _Measured(NamedTuple):
    """The scores and heights of one trial ``(queries,)``, and the roles whose vectors are as configured although the prompt is another."""

    label: str
    prompts: Prompts
    scores: Floats
    heights: Floats
    same: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class _Bench:
    """Where the trials of one model are measured."""

    spec: str
    make: Make
    part: Dataset
    ledger: Ledger
    progress: Progress
    threads: int

    def measure(self, trials: Sequence[tuple[Prompts, str]], system: Embedder) -> Iterator[_Measured]:
        """The configured prompts come first; those with one prompt for documents follow each other and share an index."""
        own, tie_order = trials[0][0], self.part.tie_order()
        first: dict[Role, vectors.Matrix] = {}
        index, indexed, embedder = None, "", system
        for prompts, label in trials:
            last, same = embedder, []  # the one before lives on until this one has had its weights
            embedder = self.make(prompts) if prompts != own else system
            if index is None or indexed != prompts.document:
                documents = self._vectors(embedder, "document", label)
                index, indexed = Index.build(documents, embedder.model.dim, self.threads), prompts.document
                if prompts.document != own.document and _equal(documents, first["document"]):
                    same.append("document")
                first.setdefault("document", documents)
            queries = self._vectors(embedder, "query", label)
            if prompts.query != own.query and _equal(queries, first["query"]):
                same.append("query")
            first.setdefault("query", queries)
            del last
            asked, judged = vectors.truncate(queries, embedder.model.dim), self.part.judgements
            rows = index.search(asked, min(_DEEPEST, index.size), tie_order).rows
            found = score(judged, rows, [_MEASURE])[_MEASURE]
            yield _Measured(label, prompts, found, heights(judged, rows), tuple(role for role in _ROLES if role in same))

    def _vectors(self, embedder: Embedder, role: Role, label: str) -> vectors.Matrix:
        return fill(self.ledger, self.progress, f"{self.spec} ({label})", embedder, self.part, role).matrix


def heights(judged: Judgements, rows: NDArray[np.integer]) -> Floats:
    """How high the relevant documents stand in rankings ``(queries, k)``: less their mean log rank, those not found as behind the last."""
    grades, relevant, k = judged.grade(rows), judged.relevant(), rows.shape[1]
    found, logs = grades > 0, np.log(np.arange(1, k + 1))
    return np.asarray(-(found @ logs + (relevant - found.sum(axis=1)) * np.log(k + 1)) / relevant)


def _equal(one: vectors.Matrix, other: vectors.Matrix) -> bool:
    return bool(np.abs(one - other).max() < _HEARD * max(1e-30, float(np.abs(other).max())))


def _unheard(role: Role, own: Prompts, measured: Sequence[_Measured]) -> bool:
    """Whether the configured prompt of a role is there, and leaving it out changes nothing."""
    return any(getattr(own, role) and not getattr(one.prompts, role) and role in one.same for one in measured)


def _trials(measured: Sequence[_Measured]) -> list[Trial]:
    """The trials in their order, the configured one first."""
    scores = np.stack([one.scores for one in measured], axis=1)  # (queries, trials)
    higher = np.stack([one.heights - measured[0].heights for one in measured[1:]])  # (trials - 1, queries)
    bounds = stats.intervals(scores)
    gains = stats.compare(scores[:, 1:], scores[:, 0])
    p = stats.holm(np.array([stats.one_sided(row) for row in higher]))
    return [
        Trial(
            one.label,
            one.prompts,
            float(scores[:, at].mean()),
            float(bounds[at, 0]),
            float(bounds[at, 1]),
            gain=gains[at - 1] if at else None,
            p=float(p[at - 1]) if at else None,
            same=one.same,
        )
        for at, one in enumerate(measured)
    ]


def seconds(model: Model, queries: int, each: float) -> float:
    """About how long checking only the queries' prompt takes, where a query takes ``each`` seconds: a prompt is about as long again."""
    trials = len(alternatives(Prompts(model.query_prompt, model.document_prompt), queries_only=True))
    return 2 * trials * queries * each
