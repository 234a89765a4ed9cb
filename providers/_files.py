"""What loaders of files share: whether something is there, and what identifies its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.errors import OptionError


def given(provider: str, name: str, what: str) -> Path:
    """The path that a user wrote behind the provider; raises OptionError where nothing is there. ``what`` is "file" or "folder"."""
    path = Path(name)
    if not name or not (path.is_file() if what == "file" else path.is_dir()):
        raise OptionError(f"{name!r} is not a {what}; write {provider}/<{what}>, as {provider}/./models/mine or {provider}//abs/path")
    return path


def content_hash(*files: Path) -> str:
    """SHA-256 in hex over the contents of files, in their order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
