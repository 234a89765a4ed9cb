"""Images of documents and queries: checked before anything is embedded, read for models, and made small for the page.

They are always opened here: a library that is handed a path may embed the path's letters as a text, and give no sign.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.embedder import Item
from harness.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

READ_AS = ("images", "upright, on white, RGB")
"""An option of models that read images: what :func:`read` does, which changes vectors."""
BOTH = ("text and image", "sum of unit vectors")
"""The same of :func:`towers`. Source: score fusion (CLIP-SF) of Wei et al., "UniIR", ECCV 2024."""
SIDE = 96
"""The longer side of a thumbnail, in pixels."""
_QUALITY = 70
_AT_ONCE = 32  # images in memory


def problem(path: Path) -> str:
    """What is wrong with an image, told by its header; an empty string where nothing is."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _quiet(), Image.open(path) as image:
            image.verify()
    except FileNotFoundError:
        return "does not exist"
    except UnidentifiedImageError:
        return "is not an image that can be read; JPEG, PNG, WebP, GIF, BMP and TIFF can"
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they meet in a broken file
        return f"is broken ({error})"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that is not read
        yield


def read(path: Path) -> Image:
    """An image as a person sees it: turned as its camera was held, transparent parts white, in RGB; raises ModelError with the path."""
    from PIL import Image, ImageOps

    try:
        with _quiet(), Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if not upright.has_transparency_data:
                return upright.convert("RGB")
            seen = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    except Exception as error:
        raise ModelError(f"image {path} cannot be read: {error}") from error


def thumbnail(path: Path) -> str:
    """A small JPEG as a data URL; an empty string where the image cannot be read."""
    try:
        small = read(path)
    except ModelError:
        return ""
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def towers(
    items: Sequence[Item],
    dim: int,
    of_texts: Callable[[list[str]], NDArray[Any]],
    of_images: Callable[[list[Image]], NDArray[Any]],
    prompt: str = "",
) -> NDArray[np.float32]:
    """The vectors of items ``(n, dim)`` by a model with a tower for texts and one for images, of which each gets only its own kind.

    An item that is both gets the sum of its two unit vectors. Images are opened a few at a time.
    """
    found = np.zeros((len(items), dim), dtype=np.float32)
    written = [row for row, item in enumerate(items) if item.full]
    drawn = [row for row, item in enumerate(items) if item.image is not None]
    both = sorted(set(written) & set(drawn))
    if written:
        found[written] = of_texts([prompt + items[row].full for row in written])
    found[both] = _unit(found[both])
    for start in range(0, len(drawn), _AT_ONCE):
        some = drawn[start : start + _AT_ONCE]
        seen = np.asarray(of_images([read(path) for row in some if (path := items[row].image) is not None]), dtype=np.float32)
        joined = np.isin(some, both)
        seen[joined] = _unit(seen[joined])
        found[some] += seen
    return found


def _unit(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), np.float32(1e-12)))
