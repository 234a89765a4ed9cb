"""Read a folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv and, if there is one, dataset.toml.

Every complaint names the file, the line and the fix.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness import images
from harness.dataset import MAX_GRADE, SKIP_EMPTY_FIX, About, Dataset, Document, Entry, Query, is_empty
from harness.errors import DatasetError, nearest

LAYOUT = "corpus.jsonl, queries.jsonl and qrels/test.tsv"
ABOUT_KEYS = ("name", "description", "task", "licence", "tags", "skip_empty", "builder", "instructions")
INSTRUCTIONS = ("query", "document")
"""The keys of [instructions]: what a model is told of the task, by the role of the text that it embeds."""


class _Line(msgspec.Struct, frozen=True):
    """What is read of a line of corpus.jsonl or queries.jsonl; other fields are the user's own and are left alone."""

    id: str | int = msgspec.field(name="_id")
    text: str | None = None
    title: str | None = None
    image: str | None = None
    tags: dict[str, str] = {}


def read(folder: Path, split: str = "test") -> Dataset:
    """Read one split of a folder in BEIR layout; raises DatasetError with file and line number."""
    folder = Path(folder)
    _check_folder(folder)
    settings = read_about(folder)
    skip_empty = settings.pop("skip_empty", False)
    settings.pop("builder", None)
    documents = _read_entries(folder / "corpus.jsonl", _document, skip_empty)
    queries = _read_entries(folder / "queries.jsonl", _query, skip_empty)
    qrels = _read_qrels(_split_file(folder, split), {q.id for q in queries}, {d.id for d in documents})
    about = About(name=settings.pop("name", folder.resolve().name), **settings)
    return Dataset.build(about, documents, queries, qrels, split=split, skip_empty=skip_empty)


def read_about(folder: Path) -> dict[str, Any]:
    """Read and check dataset.toml; an absent file is an empty one. Raises DatasetError for unknown keys."""
    path = folder / "dataset.toml"
    if not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not valid TOML: {error}") from None
    for key, value in settings.items():
        if key not in ABOUT_KEYS:
            raise DatasetError(f"{path}: unknown key {key!r}; known: {', '.join(ABOUT_KEYS)}{nearest(key, ABOUT_KEYS)}")
        wanted = {"tags": list, "skip_empty": bool, "instructions": dict}.get(key, str)
        if not isinstance(value, wanted):
            should = "table, [instructions]" if wanted is dict else wanted.__name__
            raise DatasetError(f"{path}: {key} = {value!r} should be a {should}")
    _check_instructions(path, settings.get("instructions", {}))
    if "tags" in settings:
        settings["tags"] = tuple(settings["tags"])
    return settings


def _check_instructions(path: Path, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if key not in INSTRUCTIONS:
            known = f"known: {', '.join(INSTRUCTIONS)}{nearest(key, INSTRUCTIONS)}"
            raise DatasetError(f"{path}: [instructions] unknown key {key!r}; {known}")
        if not isinstance(value, str) or not value.strip():
            raise DatasetError(f'{path}: [instructions] {key} = {value!r} should say the task, as in "Given a question, retrieve answers"')


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder; a dataset is a folder with {LAYOUT}")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: a file, but a dataset is a folder with {LAYOUT}")
    if not any(folder.iterdir()):
        raise DatasetError(f"{folder}: the folder is empty; it should hold {LAYOUT}")
    for name in ("corpus", "queries"):
        if not (folder / f"{name}.jsonl").is_file():
            other = next((p.name for p in sorted(folder.glob(f"{name}.*"))), None)
            found = f"found {other}, but the file" if other else "the file"
            raise DatasetError(f"{folder / name}.jsonl: missing; {found} must be JSON lines, {EXAMPLES[name]} on each line")


ADD_OR_REMOVE = "add it there, or remove this line"
TAGS = '"tags": {"language": "en"}'
EXAMPLES = {
    "corpus": '{"_id": "d1", "title": "...", "text": "..."}',
    "queries": '{"_id": "q1", "text": "..."}',
}


def _split_file(folder: Path, split: str) -> Path:
    path = folder / "qrels" / f"{split}.tsv"
    if path.is_file():
        return path
    splits = sorted(p.stem for p in (folder / "qrels").glob("*.tsv"))
    there = f"the splits there are: {', '.join(splits)}" if splits else "no judgements were found"
    raise DatasetError(f"{path}: missing; {there}. Judgements are lines of query id, document id and grade, tab-separated")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1; a byte order mark is dropped."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DatasetError(
                    f"{path}:{number}: byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8"
                    f" (iconv -f WINDOWS-1252 -t UTF-8, if that is what it is)"
                ) from None
            if line:
                yield number, line


def _read_entries(path: Path, make: Callable[[_Line, Path], Entry], skip_empty: bool) -> list[Entry]:
    decode = msgspec.json.Decoder(_Line).decode
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            entry = make(decode(line), path.parent)
        except msgspec.ValidationError as error:
            hint = " This looks like one array; put each of its objects on a line of its own." if line.startswith("[") else ""
            raise DatasetError(f"{where}: {error}; a line looks like {EXAMPLES[path.stem]}, tags like {TAGS}.{hint}") from None
        except msgspec.DecodeError as error:
            hint = " This looks like CSV; each line must be a JSON object." if not line.startswith(("{", "[")) else ""
            raise DatasetError(f"{where}: not valid JSON: {error}.{hint}") from None
        if not entry.id:
            raise DatasetError(f'{where}: "_id" is empty; every line needs an id of its own')
        if entry.id in seen:
            raise DatasetError(f"{where}: id {entry.id!r} was already used on line {seen[entry.id]}; ids must be unique")
        if entry.image and (wrong := images.problem(entry.image)):
            raise DatasetError(f"{where}: image {entry.image} of {entry.id!r} {wrong}")
        if is_empty(entry) and not skip_empty:
            raise DatasetError(f'{where}: {entry.id!r} has neither "text" nor "image"; {SKIP_EMPTY_FIX}')
        seen[entry.id] = number
        entries.append(entry)
    if not entries:
        raise DatasetError(f"{path}: no entries; each line looks like {EXAMPLES[path.stem]}")
    return entries


def _document(line: _Line, folder: Path) -> Document:
    image = folder / line.image if line.image else None
    return Document(str(line.id), line.text or "", line.title or "", image, line.tags)


def _query(line: _Line, folder: Path) -> Query:
    return Query(str(line.id), line.text or "", folder / line.image if line.image else None, line.tags)


def _read_qrels(path: Path, queries: set[str], documents: set[str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for place, (number, line) in enumerate(_lines(path)):
        where = f"{path}:{number}"
        fields = line.split("\t")
        if len(fields) != 3:
            hint = "; it looks separated by commas" if "," in line else "; it looks separated by blanks" if " " in line else ""
            raise DatasetError(
                f"{where}: {len(fields)} tab-separated fields in {line[:60]!r}, expected 3: query id, document id, grade{hint}"
            )
        query, document, grade = (field.strip() for field in fields)
        if place == 0 and query not in queries and not re.fullmatch(r"[+-]?\d+", grade):
            continue  # the header
        if query not in queries:
            raise DatasetError(f"{where}: query id {query!r} is not in queries.jsonl{nearest(query, queries)}; {ADD_OR_REMOVE}")
        if document not in documents:
            near = nearest(document, documents)
            raise DatasetError(f"{where}: document id {document!r} is not in corpus.jsonl{near}; {ADD_OR_REMOVE}")
        try:
            value = int(grade)
        except ValueError:
            raise DatasetError(f"{where}: grade {grade!r} is not an integer; use 0 for not relevant, 1 and up for relevant") from None
        if abs(value) > MAX_GRADE:
            raise DatasetError(f"{where}: grade {value} is not between -{MAX_GRADE} and {MAX_GRADE}")
        if qrels.setdefault(query, {}).setdefault(document, value) != value:
            raise DatasetError(f"{where}: {query!r} and {document!r} were already judged with grade {qrels[query][document]}")
    if not qrels:
        raise DatasetError(f"{path}: no judgements; each line is a query id, a document id and a grade, tab-separated")
    return qrels
