"""Providers of other packages: the example package installed and measured, and broken ones that stop nobody else."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import harness
from harness import catalog, extensions, models
from harness.cli import main
from harness.errors import ModelError, OptionError

EXAMPLE = Path(__file__).parent / "example_package"
HASH = "from providers.hash import HashEmbedder\ndef load(name, settings):\n    return HashEmbedder(8, settings)\n"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Lay a distribution out as pip does: its module, and its dist-info by hand."""
    site = tmp_path / "site"

    def add(distribution: str, source: str | None, *names: str, module: str | None = None, value: str | None = None) -> None:
        module = module or distribution.replace("-", "_")
        info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[bakeoff.providers]\n" + "".join(f"{name} = {value or module}\n" for name in names))
        if source is not None:
            (site / f"{module}.py").write_text(source)
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        extensions.found.cache_clear()

    site.mkdir()
    monkeypatch.syspath_prepend(site)
    yield add
    extensions.found.cache_clear()


def test_the_example_package_is_installed_and_measured_on_quickstart(tmp_path: Path) -> None:
    source, site = shutil.copytree(EXAMPLE, tmp_path / "source"), tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source]
    subprocess.run(pip, check=True, capture_output=True)
    command = [
        sys.executable,
        "-m",
        "harness",
        "eval",
        "quickstart",
        "-m",
        "letters/26",
        "--dims",
        "native",
        "-q",
        "--out",
        tmp_path / "out",
    ]
    path = os.pathsep.join([str(site), str(EXAMPLE.parent.parent)])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    board = harness.load(tmp_path / "out")
    by_spec = {result.spec: result.mean("ndcg@10") for result in board.results}
    assert set(by_spec) == {"letters/26", "bm25", "random"}
    assert by_spec["random"] < by_spec["letters/26"] < by_spec["bm25"]  # counting letters is better than chance, and no more
    listed = subprocess.run(
        [sys.executable, "-m", "harness", "models"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert "\nletters/<dim>: counts letters. (from bakeoff-letters 1.0)\n" in listed.stdout


def test_contributing_shows_the_example_package_as_it_is() -> None:
    text = (EXAMPLE.parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "tests/example_package" in text
    entry_points = (EXAMPLE / "pyproject.toml").read_text().partition("[project.entry-points")[2].splitlines()
    assert "\n".join(["[project.entry-points" + entry_points[0], *entry_points[1:]]) in text


def test_another_package_adds_a_provider_with_hyphens_digits_and_options(install: Install) -> None:
    install("bakeoff-foo", '"""``foo2-x/<any>``: eight hashes."""\nSETTINGS = ("query_prompt",)\n' + HASH, "foo2_x")
    assert "foo2-x" in catalog.providers()
    assert catalog.describe("foo2-x") == "foo2-x/<any>: eight hashes. (from bakeoff-foo 1.2)"
    with pytest.raises(OptionError, match=r"^foo2-x/a\?device=cpu: option 'device' has no effect"):
        catalog.load("foo2-x/a?device=cpu")
    with pytest.raises(ModelError, match="calls its model's provider 'hash', but it is 'foo2-x'"):
        catalog.load("foo2-x/a")


def test_its_keys_and_package_count_like_ours(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("bakeoff-foo", 'KEYS = ("FOO_KEY",)\nPACKAGE = "foo_sdk"\n' + HASH, "foo")
    monkeypatch.delenv("FOO_KEY", raising=False)
    assert models.missing("foo") == "pip install foo_sdk, set FOO_KEY"


BROKEN = {
    "import": (
        "import not_there.at_all\n",
        r"cannot be imported \(No module named 'not_there'\): pip install --upgrade bakeoff-foo not_there$",
    ),
    "gone": (None, r"cannot be imported \(No module named 'bakeoff_foo'\): pip install --force-reinstall bakeoff-foo$"),
    "raises": ("raise RuntimeError('boom')\n", r"cannot be imported \(RuntimeError: boom\); tell its authors$"),
    "syntax": ("def load(:\n", r"cannot be imported \(SyntaxError: .*\); tell its authors$"),
    "empty": ("x = 1\n", r"'bakeoff_foo' is not a module with a function load\(name, settings\)$"),
    "late": (
        "def load(name, settings):\n    import not_there\n",
        r"needs the package 'not_there', which cannot be imported .*: pip install not_there$",
    ),
    "nothing": (
        "def load(name, settings):\n    return [1]\n",
        r"load\(\) of bakeoff-foo 1\.2 gave list, which is no Embedder, System or Endpoint$",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_one_fails_alone_and_names_its_distribution(install: Install, what: str) -> None:
    source, said = BROKEN[what]
    install("bakeoff-foo", source, "foo")
    with pytest.raises(ModelError, match=rf"^foo/x: .*{said}") as caught:
        catalog.load("foo/x")
    assert "bakeoff-foo 1.2" in str(caught.value)
    assert catalog.load("hash/64").model.dim == 64
    listed = CliRunner().invoke(main, ["models"])
    assert listed.exit_code == 0, listed.output
    if what not in ("late", "nothing"):
        assert "\nfoo/...: cannot be used: bakeoff-foo 1.2" in listed.output
        assert models.missing("foo").startswith("bakeoff-foo 1.2")


def test_eval_goes_on_without_a_broken_one(install: Install, tmp_path: Path) -> None:
    install("bakeoff-foo", "raise RuntimeError('boom')\n", "foo")
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["eval", "quickstart", "-m", "foo/x", "-m", "hash/32", "--dims", "native", "-q", "--out", str(out)])
    assert done.exit_code == 1
    board = harness.load(out)
    assert "hash/32" in {result.spec for result in board.results}
    assert [(one.spec, one.status) for one in board.absences] == [("foo/x", "failed")]
    assert board.absences[0].reason.startswith("bakeoff-foo 1.2 cannot be imported (RuntimeError: boom)")


def test_two_packages_with_one_name_are_both_named(install: Install) -> None:
    install("bakeoff-foo", HASH, "foo")
    install("other-foo", HASH, "foo")
    with pytest.raises(
        ModelError,
        match=r"^foo/x: provider 'foo' is offered by both bakeoff-foo 1\.2 and other-foo 1\.2: keep one, as in pip uninstall other-foo$",
    ):
        catalog.load("foo/x")


def test_a_package_cannot_take_one_of_our_names_quietly(install: Install) -> None:
    install("bakeoff-hash", HASH, "hash", "openai")
    with pytest.raises(
        ModelError,
        match=r"^hash/64: provider 'hash' is offered by both bakeoff itself and bakeoff-hash 1\.2: .* pip uninstall bakeoff-hash$",
    ):
        catalog.load("hash/64")
    assert catalog.load("wordllama/256").model.dim == 256
    assert catalog.keys("openai") == ("OPENAI_API_KEY",)  # what is ours to say of our catalog stays
    assert catalog.entries.__wrapped__()


def test_a_name_that_no_spec_can_hold_is_refused(install: Install) -> None:
    install("bakeoff-foo", HASH, "Foo")
    with pytest.raises(ModelError, match=r"bakeoff-foo 1\.2 offers a provider 'Foo'; a name is lower-case letters, digits and hyphens"):
        catalog.load("Foo/x")


def test_the_value_must_be_a_module(install: Install) -> None:
    install("bakeoff-foo", HASH, "foo", value="bakeoff_foo:load")
    with pytest.raises(ModelError, match=r"'bakeoff_foo:load' is not a module with a function load"):
        catalog.load("foo/x")


def test_nothing_of_theirs_is_imported_before_it_is_named(install: Install, tmp_path: Path) -> None:
    install("bakeoff-foo", f"open({str(tmp_path / 'ran')!r}, 'w').close()\n" + HASH, "foo")
    catalog.load("hash/64")
    catalog.entries.__wrapped__()
    assert "foo" in catalog.providers()
    assert not (tmp_path / "ran").exists()
