"""What ``bakeoff doctor`` says of a machine, and of machines where something is missing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from test_architecture import HEAVY
from test_extensions import HASH, Install, install  # noqa: F401 - a fixture

import harness.keys
from harness import catalog, codes, doctor, models
from harness.cli import main
from harness.doctor import Fact
from harness.errors import OptionError
from harness.store import VectorStore

SECRET = "sk-value-that-nobody-may-see"


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--no-torch", *words])


def facts(**given: Any) -> dict[str, Fact]:
    return {fact.name: fact for fact in doctor.examine(torch=False, **given)}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for variable in {name for provider in catalog.providers() for name in catalog.keys(provider)}:
        monkeypatch.delenv(variable, raising=False)
    harness.keys._dotenv.cache_clear()


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these distributions were not installed."""
    real = doctor.distribution

    def find(name: str) -> Any:
        if name in packages:
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor, "distribution", find)


def test_a_whole_machine_can_run_and_says_a_fact_a_line() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len({line.partition(": ")[0] for line in lines}) == len(lines)
    assert lines[-1] == "make eval: can run"
    said = dict(line.split(": ", 1) for line in lines)
    assert said["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert said["faiss"].startswith("faiss-")
    assert said["cores"] == f"{codes.default_threads()} of {os.cpu_count()} may be used"
    assert "models of wordllama" in said


def test_it_leaves_nothing_behind(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run().exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_json_says_the_same() -> None:
    done = run("--json")
    said = json.loads(done.stdout)
    assert (said["schema"], said["ready"], done.exit_code) == (1, True, 0)
    assert said["facts"]["make eval"] == {"says": "can run", "value": True, "fix": "", "needed": True}
    assert said["facts"]["models"]["value"]["hash" if "hash" in said["facts"]["models"]["value"] else "wordllama"]["of"] >= 1


def test_torch_is_imported_only_to_ask_for_devices() -> None:
    code = "import sys; from harness.cli import main; main(['doctor', {}], standalone_mode=False)"
    spy = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    for option, there in (("'--no-torch'", False), ("'--torch'", True)):
        done = subprocess.run([sys.executable, "-c", spy + code.format(option)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert ("torch" in done.stderr.split()) is there
        assert not set(done.stderr.split()) & set(HEAVY) - {"torch", "faiss", "openai", "cohere", "voyageai"}
    assert "\ntorch: " in done.stdout
    assert "cpu only" in done.stdout or "cuda" in done.stdout.lower() or "NVIDIA" in done.stdout


def test_both_builds_of_faiss_are_a_conflict_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "_installed", lambda name: True)
    done = run()
    assert done.exit_code == 1
    assert (
        "\nfaiss: faiss-cpu and faiss-gpu are both installed and break each other -> pip uninstall faiss-cpu faiss-gpu, then" in done.stdout
    )
    assert done.stdout.splitlines()[-1] == "make eval: cannot run -> see to faiss"


def test_no_faiss_is_said_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise OptionError("no usable faiss (No module named 'faiss'): install bakeoff[cpu], or bakeoff[gpu] on Linux with CUDA 12")

    monkeypatch.setattr(codes, "import_faiss", none)
    fact = facts()["faiss"]
    assert fact.line() == "faiss: no usable faiss (No module named 'faiss') -> install bakeoff[cpu], or bakeoff[gpu] on Linux with CUDA 12"
    assert fact.stops


def test_a_missing_package_stops_the_default_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "msgspec", "torch")
    found = facts()
    count = sum("extra ==" not in line for line in requires("bakeoff") or ())
    assert found["packages"].line() == f"packages: {count - 1} of {count} needed are installed, not msgspec -> pip install msgspec"
    assert found["torch"].line().startswith("torch: not installed; sentence-transformers needs it -> pip install torch==")
    assert found["make eval"].fix == "see to packages; torch"
    assert run().exit_code == 1


def test_extras_that_are_missing_have_their_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "numpy>=2",
        "gpt4all>=2; extra == 'gguf'",
        'onnx>=1; sys_platform == "linux" and extra == "onnx"',
        "numpy; extra == 'onnx'",
        "faiss-cpu; extra == 'cpu'",
    ]
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    without(monkeypatch, "gpt4all", "onnx")
    found = facts()
    assert found["extra gguf"].line() == "extra gguf: optional, not installed: gpt4all -> pip install 'bakeoff[gguf]'"
    assert found["extra onnx"].says == "optional, not installed: onnx"
    assert "extra cpu" not in found
    assert not any(found[name].stops for name in ("extra gguf", "extra onnx"))


def test_a_missing_part_of_the_default_models_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.wordllama.find_spec", lambda name: None)
    fact = facts()["make eval"]
    assert (fact.value, fact.fix) == (False, "see to wordllama/256: the package wordllama is not installed: pip install wordllama")


def test_keys_are_named_with_their_source_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    Path(".env").write_text(f"VOYAGE_API_KEY={SECRET}2\nOPENAI_API_KEY={SECRET}3\nOTHER={SECRET}4\nJINA_API_KEY=\n")
    for words in ((), ("--json",)):
        done = run(*words)
        assert SECRET not in done.output
        assert "OTHER" not in done.output
    found = facts()
    assert found["key OPENAI_API_KEY"].says == "set in the environment"
    assert found["key VOYAGE_API_KEY"].says == "set in .env"
    assert "JINA_API_KEY" in found["keys not set"].value
    assert "key JINA_API_KEY" not in found
    assert found["models of openai"].value["can_run"] == found["models of openai"].value["of"]


def test_counts_of_models_agree_with_bakeoff_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    found = facts()
    entries = models.listed()
    assert found["models"].says.startswith(f"{sum(not entry.missing for entry in entries)} of {len(entries)} in the catalog can run now")
    assert found["models of voyage"].fix == "set VOYAGE_API_KEY"


def test_hub_models_offline_count_only_where_they_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "hf/hub/models--BAAI--bge-small-en-v1.5/snapshots/0a1b").mkdir(parents=True)
    count = sum(name.startswith("st/") for name in catalog.entries())
    found = facts()
    assert found["models of st"].says == f"1 of {count} can run, 1 cached, the others only without HF_HUB_OFFLINE"
    assert found["HF_HUB_OFFLINE"].value is True
    assert found["HF_HOME"].says == f"{tmp_path / 'hf'}, 1 models in {tmp_path / 'hf/hub'}"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert facts()["models of st"].says == f"{count} of {count} can run, 1 cached, the others after a download"


def test_a_table_of_tiktoken_counts_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_text("damaged")  # SHA-1 of the address of cl100k_base
    found = facts()["TIKTOKEN_CACHE_DIR"]
    assert found.says == f"{tmp_path}, cl100k_base not cached, o200k_base not cached in {tmp_path}"
    assert "get_encoding" in found.fix
    assert not found.stops


def test_the_store_is_looked_into_without_being_touched(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    assert facts(store_folder=folder)["vector store"].says == f"{folder}, not there yet: the first evaluation makes it"
    VectorStore(folder).close()
    assert facts(store_folder=folder)["vector store"].says == f"{folder}, readable and writable: 0 batches of vectors by 0 models"
    connection = sqlite3.connect(folder / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert facts(store_folder=folder)["vector store"].says == f"{folder}, of schema 99; this bakeoff writes 1"
    (folder / "index.sqlite").write_text("not a database, but long enough to be taken for one" * 40)
    broken = facts(store_folder=folder)["vector store"]
    assert broken.stops
    assert "cannot be read (file is not a database)" in broken.says


def test_a_store_that_cannot_be_written_is_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--store", str(tmp_path / "file" / "store"))
    assert done.exit_code == 1
    assert f"vector store: {tmp_path / 'file' / 'store'}, cannot be written -> give another folder with --store" in done.stdout


def test_providers_of_others_are_there_with_their_distribution(install: Install) -> None:  # noqa: F811
    install("bakeoff-foo", HASH, "foo")
    install("bakeoff-bad", "raise RuntimeError('boom')\n", "bad")
    found = facts()
    assert found["provider foo"].line() == "provider foo: from bakeoff-foo 1.2"
    assert found["provider bad"].fix == "bakeoff-bad 1.2 cannot be imported (RuntimeError: boom); tell its authors"
    assert not found["provider bad"].stops
