"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


class whole_or_nothing:  # noqa: N801 - reads as a statement
    """Give a path beside the target to write to; on success it takes the target's place, else it goes."""

    def __init__(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".half-")
        os.close(handle)
        self.target, self.half = target, Path(name)

    def __enter__(self) -> Path:
        return self.half

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.half.chmod(0o644)
            self.half.replace(self.target)
        else:
            self.half.unlink(missing_ok=True)
