"""The head of a GGUF file: what it says of its model, read without loading it. Format: ggml-org/ggml, docs/gguf.md."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from harness.errors import ModelError

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def read(path: Path) -> dict[str, Any]:
    """The file's keys and values; of lists only their length, since nobody asks here for 150,000 tokens. Raises ModelError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[:4] != _MAGIC:
                raise ModelError(f"{path} is not a GGUF file: it does not begin with GGUF")
            version, _, pairs = struct.unpack_from("<IQQ", data, 4)
            if version not in _VERSIONS:
                raise ModelError(f"{path} is of GGUF version {version}; versions 2 and 3, little-endian, can be read")
            at, found = 24, dict[str, Any]()
            for _ in range(pairs):
                key, at = _string(data, at)
                (kind,) = struct.unpack_from("<I", data, at)
                found[key], at = _value(data, at + 4, kind)
            return found
    except (struct.error, ValueError, KeyError) as error:
        raise ModelError(f"{path} is not a GGUF file that can be read; was it cut off? ({error})") from error


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _string(data, at)
    if kind == _ARRAY:
        inner, length = struct.unpack_from("<IQ", data, at)
        at += 12
        if inner in _FORMATS:
            return length, at + length * struct.calcsize(_FORMATS[inner])
        for _ in range(length):
            _, at = _value(data, at, inner)
        return length, at
    (value,) = struct.unpack_from(f"<{_FORMATS[kind]}", data, at)
    return value, at + struct.calcsize(_FORMATS[kind])


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    if at + 8 + length > len(data):
        raise ValueError("it ends early")
    return data[at + 8 : at + 8 + length].decode("utf-8", "replace"), at + 8 + length
