"""From a spec to a model: providers, options, the catalog, and what a user reads when one of them is wrong."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import providers
from harness import catalog
from harness.embedder import Embedder, Settings
from harness.errors import ModelError, OptionError
from harness.experiment import System

SOURCES = Path(providers.__file__).parent


def add_provider(folder: Path, monkeypatch, module: str, source: str) -> None:
    """A provider module dropped in beside ours."""
    (folder / f"{module}.py").write_text(source)
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"providers.{module}", raising=False)
    importlib.invalidate_caches()


def entries_of(folder: Path, monkeypatch, text: str) -> dict[str, Settings]:
    """What the catalog would be with this text."""
    (folder / "catalog.toml").write_text(text)
    monkeypatch.setattr(catalog, "files", lambda package: folder)
    return catalog.entries.__wrapped__()


def test_a_spec_without_options_has_the_catalogs_settings():
    name, settings = catalog.settings("wordllama/256")
    assert (name, settings.mrl_dims, settings.licence) == ("wordllama/256", (128, 64), "MIT")


def test_every_option_is_read_with_its_type():
    options = "revision=abc&max_tokens=512&device=cpu&trust_remote_code=true&mrl_dims=128,64&licence=MIT&usd_per_million_tokens=0.02"
    name, settings = catalog.settings(f"st/org/name?query_prompt=q%3A%20&document_prompt=&{options}")
    assert name == "st/org/name"
    assert settings == Settings(
        revision="abc",
        query_prompt="q: ",
        document_prompt="",
        max_tokens=512,
        device="cpu",
        trust_remote_code=True,
        mrl_dims=(128, 64),
        licence="MIT",
        usd_per_million_tokens=0.02,
    )


def test_the_users_options_overrule_the_catalogs_and_leave_the_rest():
    known = catalog.entries()["st/nomic-ai/nomic-embed-text-v1.5"]
    _, settings = catalog.settings("st/nomic-ai/nomic-embed-text-v1.5?query_prompt=ask: &mrl_dims=")
    assert (settings.query_prompt, settings.mrl_dims) == ("ask: ", ())
    assert settings.document_prompt == known.document_prompt == "search_document: "


def test_options_reach_the_model():
    model = catalog.load("hash/64?query_prompt=q: &mrl_dims=32,16&usd_per_million_tokens=1.5").model
    assert (model.query_prompt, model.mrl_dims, model.usd_per_million_tokens) == ("q: ", (32, 16), 1.5)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hash/64?max_token=5", "unknown option 'max_token'; known: .*device.* - did you mean 'max_tokens'"),
        ("hash/64?prompt", "unknown option 'prompt'"),
        ("hash/64?max_tokens=many", r"Expected `int.*max_tokens"),
        ("hash/64?max_tokens=0", "max_tokens"),
        ("hash/64?max_tokens=-3", "max_tokens"),
        ("hash/64?trust_remote_code=perhaps", "trust_remote_code"),
        ("hash/64?mrl_dims=64,half", r"mrl_dims\[1\]"),
        ("hash/64?mrl_dims=-1", "mrl_dims"),
        ("hsah/64", "no provider 'hsah'; there are azure, bm25, .*hash, .* - did you mean 'hash'"),
        ("organ/name", "no provider 'organ'; there are .*; for a hub id write 'st/organ/name'"),
        ("all-MiniLM-L6-v2", r"no provider 'all-MiniLM-L6-v2'; there are [a-z0-9, -]*$"),
        ("__init__", "no provider '__init__'"),
        ("hash/1000000", "dim '1000000' of hash/<dim> is not a whole number between 8 and 4096, as in hash/256"),
        ("wordllama/512", "write wordllama/256, the one size it has"),
        ("packaged/mine", "'mine' is not one of the packaged models: all-MiniLM-L6-v2"),
        ("random/often", "seed 'often' is not a whole number; write random or random/7"),
        ("bm25/plus", "bm25 takes no model name, but was given 'plus'; write bm25"),
        ("st/./no/such", "'./no/such' is not a folder; write st/<folder>"),
        ("st/", "'' is not a folder; write st/<folder>"),
    ],
)
def test_a_wrong_spec_is_one_sentence_with_the_spec_and_the_fix(spec, said):
    with pytest.raises(OptionError, match=said) as caught:
        catalog.load(spec)
    assert catalog.public(spec) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    add_provider(tmp_path, monkeypatch, "needy", "def load(name, settings):\n    import not_installed_here.client\n")
    with pytest.raises(ModelError, match=r"^needy/x: needs the package 'not_installed_here', .*: pip install not_installed_here$"):
        catalog.load("needy/x")


@pytest.mark.parametrize(("module", "extra"), [("h5py", "elmo"), ("onnxruntime.capi", "onnx"), ("xllamacpp", "gguf")])
def test_a_missing_package_of_an_extra_names_the_extra(module, extra):
    project = tomllib.loads((SOURCES.parent / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"][extra][0].startswith(module.partition(".")[0])
    said = catalog.needs_package(ImportError("no", name=module))
    assert said.endswith(f"pip install 'bakeoff[{extra}]'")


def test_private_modules_of_providers_are_none():
    assert list(SOURCES.glob("_*.py")) != []
    assert not [name for name in catalog.providers() if name.startswith(("_", "-"))]


def test_a_file_dropped_into_providers_is_a_provider(tmp_path, monkeypatch):
    add_provider(
        tmp_path, monkeypatch, "my_own", "from providers.hash import HashEmbedder\ndef load(name, s):\n    return HashEmbedder(8, s)\n"
    )
    assert "my-own" in catalog.providers()
    assert catalog.load("my-own/any").model.dim == 8


def test_there_is_one_provider_a_file():
    files = {path.stem.replace("_", "-") for path in SOURCES.glob("[!_]*.py")}
    assert catalog.providers() == sorted(files)


@pytest.mark.parametrize("provider", catalog.providers())
def test_every_provider_has_a_load_function(provider):
    module = importlib.import_module(f"providers.{provider.replace('-', '_')}")
    assert callable(module.load)
    assert module.__doc__.startswith(f"``{provider}")


def test_the_catalog_names_only_providers_there_are():
    assert {name.partition("/")[0] for name in catalog.entries()} <= set(catalog.providers())


@pytest.mark.parametrize("name", catalog.entries())
def test_every_catalog_entry_has_a_licence_and_falling_dims(name):
    known = catalog.entries()[name]
    assert known.licence
    assert list(known.mrl_dims) == sorted({dim for dim in known.mrl_dims if dim > 0}, reverse=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["hash/64"]\nlicense = "MIT"\n', "catalog.toml, 'hash/64': unknown option 'license'; .* - did you mean 'licence'"),
        ('["hash/64"]\nmrl_dims = ["half"]\n', r"catalog.toml, 'hash/64': Expected `int`, got `str` - at `\$.mrl_dims"),
    ],
)
def test_a_wrong_catalog_entry_is_named(tmp_path, monkeypatch, text, said):
    with pytest.raises(OptionError, match=said):
        entries_of(tmp_path, monkeypatch, text)


@pytest.mark.parametrize("floor", catalog.FLOORS)
def test_the_floors_rank_by_themselves(floor):
    system = catalog.load(floor)
    assert isinstance(system, System)
    assert not isinstance(system, Embedder)
    assert (str(system.model), system.model.dim) == (floor, 0)


def test_the_default_models_start_with_the_floors():
    assert catalog.DEFAULT_MODELS[: len(catalog.FLOORS)] == catalog.FLOORS == ("bm25", "random")


def test_the_default_models_are_named_without_loading_torch():
    code = "import sys; from harness import catalog; print([str(catalog.load(m).model) for m in catalog.DEFAULT_MODELS], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{list(catalog.DEFAULT_MODELS)} False"


@pytest.mark.parametrize("spec", ["wordllama/256?max_tokens=5", "packaged/all-MiniLM-L6-v2?revision=z", "bm25?query_prompt=a"])
def test_an_option_without_effect_is_refused(spec):
    with pytest.raises(OptionError, match=r"option '.*' has no effect on this provider; it takes .*licence"):
        catalog.load(spec)


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(OptionError, match="max_tokens 100000 is more than the 512 positions"):
        catalog.load("packaged/all-MiniLM-L6-v2?max_tokens=100000")
