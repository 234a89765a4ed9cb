"""What the page shows of queries and documents beside their ids: the beginning of a text, a thumbnail of an image."""

from __future__ import annotations

from collections.abc import Sequence

from harness import images
from harness.dataset import Dataset, Document
from harness.filling import item
from harness.result import Result

_SHOWN, _EXCERPT = 10, 200  # hits of each query whose texts are kept for the page; characters of each
_PICTURES = 6_000_000  # characters of all thumbnails together


def shown(dataset: Dataset, results: Sequence[Result]) -> list[Document]:
    """The documents that are judged or among the first ten of any result."""
    judged = {dataset.documents[row].id for row in dataset.judgements.documents}
    known = judged.union(*(ids[:_SHOWN] for result in results for ids in result.documents))
    return [document for document in dataset.documents if document.id in known]


def beginnings(documents: Sequence[Document]) -> dict[str, str]:
    """Id -> the beginning of the text, or the name of the image."""
    return {d.id: item(d).full[:_EXCERPT] or f"image {d.image.name if d.image else ''}" for d in documents}


def pictures(dataset: Dataset, documents: Sequence[Document]) -> dict[str, dict[str, str]]:
    """Thumbnails of the queries and of the documents, "queries" or "documents" -> id -> data URL, until there are too many."""
    found: dict[str, dict[str, str]] = {"queries": {}, "documents": {}}
    size = 0
    for what, entries in (("queries", dataset.queries), ("documents", documents)):
        for entry in entries:
            if entry.image is not None and size < _PICTURES and (small := images.thumbnail(entry.image)):
                found[what][entry.id] = small
                size += len(small)
    return found if size else {}
