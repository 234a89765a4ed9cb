"""The outside of an ONNX graph, read from the file without loading it. Field numbers: onnx/onnx.proto (protobuf wire format)."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ModelError

Port = tuple[int | str | None, ...]
"""The shape of an input or output: sizes, or names of those that vary."""
_QUANTIZES = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QEmbedLayerNormalization")


@dataclass(frozen=True, slots=True)
class Graph:
    """``element`` is the number type of each input: 7 for int64, 6 for int32. ``quantizes``: activations get their scale as they come."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]
    element: dict[str, int]
    quantizes: bool


def read(path: Path) -> Graph:
    """Raises ModelError for a file that is no ONNX model."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            found = _graph(view)
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is not an ONNX model: {error}") from error
    if not found.inputs or not found.outputs:
        raise ModelError(f"{path} is not an ONNX model: it has no graph with inputs and outputs")
    return found


def _graph(view: memoryview) -> Graph:
    inputs, outputs, element, known, quantizes = dict[str, Port](), dict[str, Port](), dict[str, int](), set[str](), False
    for graph in _parts(view, 7):
        for name, value in _fields(graph):
            if name == 1 and isinstance(value, memoryview):  # a node, of type 4
                quantizes = quantizes or any(_text(operator) in _QUANTIZES for operator in _parts(value, 4))
            elif name == 5 and isinstance(value, memoryview):  # a weight, named in 8: old files list them among the inputs
                known |= {_text(weight) for weight in _parts(value, 8)}
            elif name in (11, 12) and isinstance(value, memoryview):
                port, kind, shape = _port(value)
                (inputs if name == 11 else outputs)[port] = shape
                element[port] = kind
    return Graph({name: shape for name, shape in inputs.items() if name not in known}, outputs, element, quantizes)


def _port(view: memoryview) -> tuple[str, int, Port]:
    """Name, number type and shape of a ValueInfoProto: name 1, type 2, in it tensor 1, in it element 1 and shape 2, in it dims 1."""
    name = "".join(_text(part) for part in _parts(view, 1))
    kind, shape = 0, list[int | str | None]()
    for tensor in (tensor for type_ in _parts(view, 2) for tensor in _parts(type_, 1)):
        for field, value in _fields(tensor):
            if field == 1 and isinstance(value, int):
                kind = value
            elif field == 2 and isinstance(value, memoryview):
                shape = [_size(dim) for dim in _parts(value, 1)]
    return name, kind, tuple(shape)


def _size(view: memoryview) -> int | str | None:
    sizes = [value if isinstance(value, int) else _text(value) for field, value in _fields(view) if field in (1, 2)]
    return sizes[0] if sizes else None


def _text(view: memoryview) -> str:
    return bytes(view).decode()


def _parts(view: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for field, value in _fields(view) if field == wanted and isinstance(value, memoryview))


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; of those with a fixed width only that they are there."""
    at = 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind, value = tag & 7, 0
        if kind == 0:
            value, at = _varint(view, at)
            yield tag >> 3, value
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"no field of type {kind} can be")
        size, at = _varint(view, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if at + size > len(view):
            raise ValueError("it ends early")
        yield tag >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[at]
        value, at, shift = value | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number goes on too long")
