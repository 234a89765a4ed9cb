"""What is installed here and what can run: ``bakeoff doctor``. It looks, and changes nothing; keys are named, never shown."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from harness import catalog, codes, extensions, keys, models, shipped, store, tokens
from harness.environment import cache_folder, environment
from harness.errors import HarnessError

_GB = 1e9
_FAISS = ("faiss-cpu", "faiss-gpu")
_TORCH_FIX = "pip install torch==2.13.0 (a plain torch brings gigabytes of CUDA on Linux)"
_WORKSHOP = "dev"  # the extra of whoever changes bakeoff


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: what was looked at, what was found, the same for programs, and what to do about it; empty where all is well.

    ``needed``: without the fix the default evaluation cannot run.
    """

    name: str
    says: str
    value: Any = None
    fix: str = ""
    needed: bool = False

    @property
    def stops(self) -> bool:
        """Whether this keeps the default evaluation from running."""
        return self.needed and bool(self.fix)

    def line(self) -> str:
        """The fact as the terminal shows it."""
        return f"{self.name}: {self.says}" + (f" -> {self.fix}" if self.fix else "")


def examine(store_folder: Path | None = None, *, torch: bool = True) -> list[Fact]:
    """Look at everything, last at whether ``make eval`` could run; ``torch``: import it, in seconds, to ask for its devices."""
    facts = [
        *_machine(),
        *_packages(),
        _faiss(),
        _threads(),
        _torch(ask=torch),
        *_folders(store_folder or cache_folder() / "store"),
        *_hub(),
        *_keys(),
        *_extensions(),
        *_models(),
    ]
    return [*facts, _verdict(facts)]


def as_json(facts: list[Fact]) -> dict[str, Any]:
    """The facts for programs: ``ready``, and name -> says, value, fix, needed."""
    said = {fact.name: {"says": fact.says, "value": fact.value, "fix": fact.fix, "needed": fact.needed} for fact in facts}
    return {"schema": 1, "ready": not any(fact.stops for fact in facts), "facts": said}


def _machine() -> Iterator[Fact]:
    known = environment()
    yield Fact("bakeoff", f"{known['packages'].get('bakeoff', 'not installed as a package')}, in {Path(__file__).parent}")
    yield Fact("python", f"{known['python']}, {sys.executable}", known["python"])
    yield Fact("machine", f"{known['platform']}, {known['processor']}", known["platform"])
    usable, cores = codes.default_threads(), known["cores"]
    yield Fact("cores", f"{usable} of {cores} may be used", usable)
    total, free = known["memory_bytes"], _free_memory()
    sizes = [f"{total / _GB:.1f} GB" if total else "unknown size", f"{free / _GB:.1f} GB free" if free is not None else ""]
    yield Fact("memory", ", ".join(size for size in sizes if size), {"bytes": total, "free_bytes": free})


def _free_memory() -> int | None:
    """Bytes that may be used without swapping, inside a container's limit (cgroup 2); None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
    except (OSError, ValueError):  # no cgroup 2, or "max"
        return free
    return min(free, limit - used)


def _packages() -> Iterator[Fact]:
    """The packages that bakeoff's own metadata asks for, and its extras but those of faiss, which are looked at by themselves."""
    try:
        wanted = [_requirement(line) for line in requires("bakeoff") or ()]
    except PackageNotFoundError:
        yield Fact("packages", "bakeoff is not installed as a package, so what it needs is not known")
        return
    base = [name for name, extra in wanted if not extra]
    absent = [name for name in base if _version(name) is None]
    says = f"{len(base) - len(absent)} of {len(base)} needed are installed"
    yield Fact("packages", says + (f", not {', '.join(absent)}" if absent else ""), absent, _pip(absent), needed=True)
    for extra in sorted({extra for _, extra in wanted if extra} - {"cpu", "gpu"}):
        lacks = [name for name, of in wanted if of == extra and _version(name) is None]
        what = "for working on bakeoff itself" if extra == _WORKSHOP else "optional"
        says = f"{what}, not installed: {', '.join(lacks)}" if lacks else f"{what}, installed"
        yield Fact(f"extra {extra}", says, lacks, f"pip install 'bakeoff[{extra}]'" if lacks else "")


def _requirement(line: str) -> tuple[str, str]:
    """The package and the extra of a line of metadata, as in ``faiss-cpu>=1.15; extra == 'cpu'``."""
    extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", line)
    return re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0], extra[1] if extra else ""


def _pip(packages: list[str]) -> str:
    return f"pip install {' '.join(packages)}" if packages else ""


def _version(package: str) -> str | None:
    try:
        return distribution(package).version
    except PackageNotFoundError:
        return None


def _faiss() -> Fact:
    builds = [f"{name} {version}" for name in _FAISS if (version := _version(name))]
    try:
        faiss = codes.import_faiss()
    except HarnessError as error:
        says, _, fix = str(error).rpartition(": ")
        return Fact("faiss", says, builds, fix, needed=True)
    gpus = int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0
    where = f"searches on {gpus} GPU" + "s" * (gpus > 1) if gpus else "searches on the CPU"
    build = builds[0] if builds else f"built by hand, {faiss.__version__}"
    if build.startswith("faiss-gpu") and not gpus:
        where += ": it sees no GPU"
    return Fact("faiss", f"{build}, {where}", {"build": build, "gpus": gpus}, needed=True)


def _threads() -> Fact:
    given = os.environ.get("OMP_NUM_THREADS")
    says = f"{codes.default_threads()}, unless --threads says otherwise"
    return Fact("faiss threads", says + (f" (OMP_NUM_THREADS={given} is overruled)" if given else ""), codes.default_threads())


def _torch(*, ask: bool) -> Fact:
    version = _version("torch")
    if version is None:
        return Fact("torch", "not installed; sentence-transformers needs it", None, _TORCH_FIX, needed=True)
    if not ask:
        return Fact("torch", f"{version}, devices not asked for", {"version": version}, needed=True)
    try:
        import torch
    except (ImportError, OSError) as error:  # a library it was built against is not there
        return Fact("torch", f"{version}, cannot be imported ({error})", None, f"pip uninstall torch, then {_TORCH_FIX}", needed=True)
    devices = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    devices += ["mps"] * torch.backends.mps.is_available()
    return Fact("torch", f"{version}, {', '.join(devices) or 'cpu only'}", {"version": version, "devices": devices}, needed=True)


def _folders(store_folder: Path) -> Iterator[Fact]:
    folder = cache_folder()
    source = "$BAKEOFF_CACHE" if os.environ.get("BAKEOFF_CACHE") else "set $BAKEOFF_CACHE to move it"
    bytes_ = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(_existing(folder)).free
    says = f"{folder} ({source}), {bytes_ / _GB:.2f} GB, {free / _GB:.1f} GB free on the disk"
    yield Fact("cache", says, {"folder": str(folder), "bytes": bytes_, "free_bytes": free})
    yield _store(store_folder)
    here = Path.cwd() / "out"
    fix = "" if _writable(here) else "go to a folder of your own, or give one with --out"
    yield Fact("results", f"{here}, {'cannot' if fix else 'can'} be written", str(here), fix, needed=True)


def _store(folder: Path) -> Fact:
    file, other = folder / "index.sqlite", "give another folder with --store, or set $BAKEOFF_CACHE"
    if not _writable(folder) or (file.exists() and not os.access(file, os.W_OK)):
        return Fact("vector store", f"{folder}, cannot be written", None, other, needed=True)
    if not file.exists():
        return Fact("vector store", f"{folder}, not there yet: the first evaluation makes it", {"shards": 0, "models": 0}, needed=True)
    try:
        connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=5.0)
        try:
            schema = connection.execute("PRAGMA user_version").fetchone()[0]
            shards, made_by = connection.execute("SELECT count(*), count(DISTINCT model) FROM shards").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        return Fact("vector store", f"{folder}, cannot be read ({error})", None, f"delete it, or {other}", needed=True)
    if schema != store.SCHEMA:
        return Fact("vector store", f"{folder}, of schema {schema}; this bakeoff writes {store.SCHEMA}", None, other, needed=True)
    says = f"{folder}, readable and writable: {shards:,} batches of vectors by {made_by:,} models"
    return Fact("vector store", says, {"shards": shards, "models": made_by}, needed=True)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _writable(path: Path) -> bool:
    nearest = _existing(path)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _hub() -> Iterator[Fact]:
    folder = _hub_folder()
    cached = len(list(folder.glob("models--*")))
    yield Fact("HF_HOME", f"{os.environ.get('HF_HOME', 'not set')}, {cached} models in {folder}", {"folder": str(folder), "models": cached})
    yield Fact(
        "HF_HUB_OFFLINE", "set: nothing is downloaded" if _offline() else "not set: models are downloaded when they are named", _offline()
    )
    tables = tokens.tables()
    says = ", ".join(f"{name} {'cached' if there else 'not cached'}" for name, there in tables.items())
    variable = os.environ.get("TIKTOKEN_CACHE_DIR", "not set")
    why = "OpenAI's tokens are only estimated; python -c 'import tiktoken; tiktoken.get_encoding(\"cl100k_base\")' caches the table"
    yield Fact("TIKTOKEN_CACHE_DIR", f"{variable}, {says} in {tokens.table_folder()}", tables, "" if tables["cl100k_base"] else why)


def _hub_folder() -> Path:
    """Where huggingface_hub keeps models (huggingface_hub/constants.py), without importing it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub").expanduser()


def _offline() -> bool:
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").upper() in ("1", "ON", "YES", "TRUE")


def _keys() -> Iterator[Fact]:
    absent = []
    for variable in sorted({name for provider in catalog.providers() for name in catalog.keys(provider)}):
        if source := keys.source(variable):
            yield Fact(f"key {variable}", f"set in {source}", source)
        else:
            absent.append(variable)
    yield Fact("keys not set", ", ".join(absent) or "none", absent)


def _extensions() -> Iterator[Fact]:
    for name, extension in extensions.found().items():
        trouble = catalog.trouble(name)
        yield Fact(f"provider {name}", f"from {extension.origin}", extension.origin, trouble)


def _models() -> Iterator[Fact]:
    """How many models of the catalog can run now, by provider; those of the hub that would have to be downloaded are counted apart."""
    entries = models.listed()
    total, runs, there, lacks = Counter[str](), Counter[str](), Counter[str](), {}
    for entry in entries:
        provider = entry.name.partition("/")[0]
        total[provider] += 1
        cached = not entry.hub_id or any((_hub_folder() / f"models--{entry.hub_id.replace('/', '--')}").glob("snapshots/*"))
        there[provider] += cached
        runs[provider] += not entry.missing and (cached or not _offline())
        lacks[provider] = entry.missing
    counts = {provider: {"can_run": runs[provider], "of": total[provider]} for provider in total}
    yield Fact("models", f"{runs.total()} of {total.total()} in the catalog can run now (bakeoff models lists them)", counts)
    for provider, count in total.items():
        says = f"{runs[provider]} of {count} can run"
        if not lacks[provider] and there[provider] < count:
            says += f", {there[provider]} cached, " + (
                "the others only without HF_HUB_OFFLINE" if _offline() else "the others after a download"
            )
        yield Fact(f"models of {provider}", says, counts[provider], lacks[provider])


def _verdict(facts: list[Fact]) -> Fact:
    """Whether the default evaluation could run: nothing above stops it, and each of its parts is there."""
    stops = [fact.name for fact in facts if fact.stops]
    parts: list[tuple[Callable[[str], object], str]] = [(catalog.load, spec) for spec in catalog.DEFAULT_MODELS]
    for look, name in [*parts, (shipped.load, "quickstart")]:
        try:
            look(name)
        except HarnessError as error:
            stops.append(str(error))
    if find_spec("sentence_transformers") is None:
        stops.append("sentence-transformers: pip install sentence-transformers")
    if not stops:
        return Fact("make eval", "can run", value=True, needed=True)
    return Fact("make eval", "cannot run", value=False, fix=f"see to {'; '.join(stops)}", needed=True)
