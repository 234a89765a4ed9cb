"""What the loaders of local models share: where the files are, what identifies them, whose code may run, and what their JSON says."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.embedder import Settings
from harness.errors import ModelError, OptionError

TOKENS_A_BATCH = 4096
"""On a CPU small batches stay in its cache: 6.5 thousand tokens/s at 4,096 tokens, 5.4 at 16,384 (MiniLM, 2 cores)."""
_SMALL_FILES = ["*.json", "*.txt"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MISSING = re.compile(r"^(.+?)\s*\|\s*MISSING\b", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PADDED = ("roberta", "camembert", "mpnet", "longformer", "data2vec-text", "ibert", "luke")
"""Families whose first positions are never used: those up to the padding token's number (transformers, create_position_ids)."""
_RELATIVE = ("t5", "xlnet")
ANY_LENGTH = 1 << 20
"""A limit of so many tokens or more is none: tokenizers write 1e30."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model's files. ``commit`` is that of a hub id; None for a folder, which its content identifies."""

    folder: Path
    name: str
    commit: str | None = None

    @property
    def where(self) -> str:
        """What the libraries that load it want to hear: the hub id or the folder."""
        return self.name if self.commit else str(self.folder)

    def revision(self) -> str:
        """What identifies the weights."""
        return self.commit or content_hash(self.folder)


def find(provider: str, name: str, settings: Settings) -> Source:
    """``name`` is a folder (``./models/mine``, ``/abs/path``) or a hub id (``org/name``), whose small files are fetched.

    Raises OptionError for what cannot be one, and where remote code is allowed without saying which.
    """
    if name and Path(name).is_dir():
        if settings.revision:
            raise OptionError(f"a folder has no revisions, but revision {settings.revision!r} was given; name the folder of that one")
        source = Source(Path(name), name)
    else:
        if not name or name.startswith((".", "/", "~")):
            raise OptionError(f"{name!r} is not a folder; write {provider}/<folder> or {provider}/<organisation>/<name>")
        if settings.trust_remote_code and not _COMMIT.fullmatch(settings.revision or ""):
            raise OptionError(_unpinned("revision", settings.revision, name))
        folder = _snapshot(provider, name, settings.revision)
        source = Source(folder, name, folder.name)
    _check_code(source, settings)
    return source


def _unpinned(option: str, given: str | None, name: str) -> str:
    what = f"{option} {given!r} may change" if given else f"no {option} is given"
    show = f"python -c 'from huggingface_hub import model_info; print(model_info(\"{name}\").sha)' shows the newest"
    return f"trust_remote_code runs code out of {name}, but {what}: read it, then say {option}=<its commit, 40 hex digits>; {show}"


def elsewhere(source: Source) -> set[str]:
    """Other repositories that a model takes code from: ``auto_map`` writes them ``org/name--module.Class``."""
    maps = [json_file(source.folder / file).get("auto_map") for file in ("config.json", "tokenizer_config.json")]
    return {str(ref).partition("--")[0] for ref in _strings(maps) if "--" in str(ref)} - {source.name}


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _check_code(source: Source, settings: Settings) -> None:
    if not settings.trust_remote_code:
        if settings.code_revision:
            raise OptionError("code_revision has no effect without trust_remote_code=true")
        return
    others = sorted(elsewhere(source))
    if len(others) > 1:
        raise OptionError(f"takes code from {', '.join(others)}, and one code_revision cannot pin them all; copy the code into a folder")
    if others and not _COMMIT.fullmatch(settings.code_revision or ""):
        raise OptionError(_unpinned("code_revision", settings.code_revision, others[0]))
    if settings.code_revision and not others:
        raise OptionError(f"code_revision has no effect: {source.name} takes code from no other repository")


def _snapshot(provider: str, name: str, revision: str | None) -> Path:
    """The cached snapshot of a hub id with its small files, downloaded if need be; its name is the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_SMALL_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        fix = f"check the name and the network, or give a folder with {provider}/<folder>"
        raise ModelError(
            f"{name!r}{at} is neither in the local cache nor to be had from the hub ({type(error).__name__}); {fix}"
        ) from error


def code_options(settings: Settings) -> tuple[tuple[str, str], ...]:
    """What of the consent to remote code changes vectors: whose code runs."""
    return (("code", settings.code_revision or "its own"),) if settings.trust_remote_code else ()


def json_file(path: Path) -> Any:
    """A JSON file's content; an empty dict where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def prompts(folder: Path) -> tuple[str, str]:
    """The prompts for queries and for documents that a sentence-transformers folder has, else empty strings."""
    own = json_file(folder / "config_sentence_transformers.json").get("prompts") or {}
    return own.get("query") or "", next((own[name] for name in ("document", "passage", "corpus") if own.get(name)), "")


def positions(config: dict[str, Any]) -> int | None:
    """How many tokens a model has positions for, by its config.json; None where it has no absolute ones."""
    most, family = config.get("max_position_embeddings") or config.get("n_positions"), str(config.get("model_type"))
    if not most or any(name in family for name in _RELATIVE):
        return None
    unused = (1 if config.get("pad_token_id") is None else config["pad_token_id"]) + 1
    return int(most) - (unused if any(name in family for name in _PADDED) else 0)


def token_limit(folder: Path, config: dict[str, Any]) -> int | None:
    """Where a transformers folder cuts a text off, in tokens: its tokenizer's limit or its positions, whichever is less."""
    tokenizer = json_file(folder / "tokenizer_config.json").get("model_max_length")
    limits = [int(limit) for limit in (tokenizer, positions(config)) if limit and limit < ANY_LENGTH]
    return min(limits) if limits else None


def check_max_tokens(settings: Settings, positions: int | None) -> None:
    """Raises OptionError for more tokens than the model has positions."""
    if settings.max_tokens and positions and settings.max_tokens > positions:
        raise OptionError(f"max_tokens {settings.max_tokens} is more than the {positions} positions that the model has")


def content_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of all files but read-me's and hidden ones: a folder trained anew is another model."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and path.suffix not in (".md", ".pyc") and not any(part.startswith(".") for part in relative.parts):
            with path.open("rb") as file:
                digest.update(f"{relative.as_posix()}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


class _Reports(logging.Handler):
    """Keeps what transformers logs."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(_COLOUR.sub("", record.getMessage()))


@contextmanager
def loading(*, unused: tuple[str, ...] = ()) -> Iterator[None]:
    """Load weights in here: quietly, with a ModelError for what goes wrong, and for weights that the files lack.

    transformers fills in random ones and only logs it, as happens where a model's architecture is the one of its own code. Names
    that hold one of ``unused`` don't matter.
    """
    from transformers.utils import logging as theirs

    reports = _Reports()
    theirs.set_verbosity_warning()
    theirs.disable_progress_bar()
    theirs.disable_default_handler()
    theirs.add_handler(reports)
    try:
        yield
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"cannot be loaded: {said[:400]}{_hint(said)}") from error
    finally:
        theirs.remove_handler(reports)
        theirs.enable_default_handler()
        theirs.set_verbosity_error()
    absent = [name.strip() for said in reports.said for name in _MISSING.findall(said)]
    if absent := [name for name in absent if not any(part in name for part in unused)]:
        fix = "its architecture is probably that of its own code: see trust_remote_code"
        raise ModelError(f"cannot be loaded: {len(absent)} weights are not in its files, {absent[0]} among them; {fix}")


def _hint(said: str) -> str:
    return "; if you trust its code, add ?trust_remote_code=true&revision=<commit>" if "trust_remote_code" in said else ""
