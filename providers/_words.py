"""Files of word vectors: GloVe's text, word2vec's text and binary, fastText's .vec, gzipped or not."""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError

_GZIP, _FASTTEXT = b"\x1f\x8b", (793712314).to_bytes(4, "little")
_LINE = 1 << 20  # bytes; no line is longer in a file that is what it should be


@dataclass(frozen=True, slots=True)
class Layout:
    """What the first line of a file says. ``words`` is None where it does not: it holds a word, and there is no header."""

    path: Path
    dim: int
    words: int | None
    binary: bool = False


def look(path: Path) -> Layout:
    """Read the first line, of words and dimensions, or of the first word and its vector. Raises ModelError where it is neither."""
    try:
        with _open(path) as file:
            first = file.readline(_LINE)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    if first.startswith(_FASTTEXT):
        raise ModelError(f"{path} is a fastText model with its n-grams; take the .vec file that belongs to it, which holds its words")
    fields = first.split()
    binary = ".bin" in path.suffixes[-2:]
    if len(fields) == 2 and all(field.isdigit() for field in fields):
        words, dim = map(int, fields)
        if words < 1 or dim < 1:
            raise ModelError(f"{path}, line 1: {words} words of {dim} dimensions cannot be")
        return Layout(path, dim, words, binary)
    if binary:
        raise ModelError(f"{path}, line 1: word2vec's .bin begins with the number of words and dimensions, as in 3000000 300")
    word, *numbers = first.rstrip().split(b" ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        dim = len(_numbers(b" ".join(numbers)))
    if not word or dim < 1 or dim != len(numbers):
        raise ModelError(
            f"{path}, line 1: {_shown(first)} is neither a number of words and dimensions nor a word and its vector; "
            "static/ reads GloVe's and word2vec's text, word2vec's .bin and fastText's .vec"
        )
    return Layout(path, dim, None)


def read(layout: Layout) -> tuple[dict[str, int], NDArray[np.float32]]:
    """Every word with its row, and their vectors ``(words, dim)``. Raises ModelError with the line that is wrong."""
    try:
        count = layout.words or _count(layout.path)
        table = _allocate(layout, count)
        words: dict[str, int] = {}
        with _open(layout.path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a text that is not all numbers: told apart by their count
            for place, word, vector in _binary(file, layout) if layout.binary else _text(file, layout):
                row = len(words)
                if row == count:
                    raise ModelError(f"{layout.path}, {place}: there are more than the {count:,} words of its first line")
                _check(layout, place, word, vector)
                if words.setdefault(word.decode("utf-8", "surrogateescape"), row) != row:
                    raise ModelError(f"{layout.path}, {place}: the word {_shown(word)} is there already; each may have one vector")
                table[row] = vector
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(layout.path, error) from error
    if len(words) < count:
        raise ModelError(f"{layout.path}: its first line says {count:,} words, but there are {len(words):,}; was it cut off?")
    return words, table


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
    return cast("BinaryIO", gzip.open(path, "rb")) if zipped else path.open("rb")


def _count(path: Path) -> int:
    with _open(path) as file:
        return sum(not line.isspace() for line in file)


def _allocate(layout: Layout, count: int) -> NDArray[np.float32]:
    need, memory = count * layout.dim * 4, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    said = f"{layout.path}: {count:,} vectors of {layout.dim} dimensions take {need / 1e9:,.1f} GB as float32, "
    fix = "; its words come in falling order of frequency, so the first lines are a smaller file as good for most texts"
    if need > memory:
        raise ModelError(f"{said}more than the {memory / 1e9:,.1f} GB of this machine{fix}")
    try:
        return np.empty((count, layout.dim), dtype=np.float32)
    except MemoryError as error:
        raise ModelError(f"{said}more than can be had{fix}") from error


def _text(file: BinaryIO, layout: Layout) -> Iterator[tuple[str, bytes, NDArray[np.float32]]]:
    """Place, word and vector. A word may hold blanks (GloVe's 840B has such), so the numbers are counted from the right."""
    for number, line in enumerate(file, start=1):
        if (number == 1 and layout.words is not None) or line.isspace():
            continue
        word, *numbers = line.rstrip(b" \r\n").rsplit(b" ", layout.dim)
        yield f"line {number}", word, _numbers(b" ".join(numbers))


def _binary(file: BinaryIO, layout: Layout) -> Iterator[tuple[str, bytes, NDArray[np.float32]]]:
    """Place, word and vector. Some writers put a line break behind each vector, some don't."""
    file.readline(_LINE)
    for number in range(1, (layout.words or 0) + 1):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b""):
            word += byte
        vector = file.read(4 * layout.dim)
        if len(vector) < 4 * layout.dim:
            raise ModelError(f"{layout.path}: its first line says {layout.words:,} words, but it ends in word {number:,}; was it cut off?")
        yield f"word {number}", bytes(word).lstrip(b"\n"), np.frombuffer(vector, dtype="<f4")


def _numbers(text: bytes) -> NDArray[np.float32]:
    """The numbers of a line up to the first thing that is none, of which NumPy warns."""
    try:
        return np.fromstring(text, dtype=np.float32, sep=" ")
    except ValueError:
        return np.empty(0, dtype=np.float32)


def _check(layout: Layout, place: str, word: bytes, vector: NDArray[np.float32]) -> None:
    ahead = word.rpartition(b" ")[2] if b" " in word else b""
    if len(vector) != layout.dim or _is_number(ahead):
        raise ModelError(f"{layout.path}, {place}: behind {_shown(word)} there should be {layout.dim} numbers, no more and no less")
    if not np.isfinite(vector).all():
        raise ModelError(f"{layout.path}, {place}: the vector of {_shown(word)} holds a NaN or an infinity")


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(word: bytes) -> str:
    return repr(word[:40].decode("utf-8", "replace"))


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} cannot be read: {error or type(error).__name__}")
