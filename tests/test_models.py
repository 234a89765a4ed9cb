"""The catalog of models: what it refuses to hold, and what ``bakeoff models`` makes of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_architecture import HEAVY
from test_catalog import add_provider, entries_of

import harness.keys
from harness import catalog, models
from harness.cli import main
from harness.errors import OptionError
from harness.models import Wish

PRICE = 'usd_per_million_tokens = 0.5\nusd_source = "a page"\nusd_date = 2026-11-12\n'
CATALOG = f"""
["hash/64"]
mrl_dims = [32, 16]
licence = "MIT"
tasks = ["english"]

["hash/org/name"]
licence = "MIT"
tasks = ["multilingual"]

["paid/cheap"]
dim = 8
max_tokens = 32_000
licence = "API terms"
tasks = ["code", "long"]
{PRICE}
["paid/dear"]
dim = 8
mrl_dims = [4]
licence = "API terms"
tasks = ["code"]
{PRICE.replace("0.5", "2.0")}
["paid/secret"]
dim = 8
licence = "API terms"
tasks = ["code"]
"""
PAID = '"""``paid/<name>``: a stand-in."""\nKEYS = ("PAID_KEY", "PAID_TOKEN")\nPACKAGE = "paid_sdk"\ndef load(name, settings): ...\n'


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of five models, three of them behind an API whose package and key are missing; the folder that imports look into."""
    add_provider(tmp_path, monkeypatch, "paid", PAID)
    known = entries_of(tmp_path, monkeypatch, CATALOG)
    monkeypatch.setattr(catalog, "entries", lambda: known)
    for name in ("PAID_KEY", "PAID_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    harness.keys._dotenv.cache_clear()
    return tmp_path


def names(wish: Wish) -> list[str]:
    return [entry.name for entry in models.fitting(models.listed(), wish).entries]


def install(folder: Path) -> None:
    (folder / "site" / "paid_sdk.py").write_text("raise RuntimeError('looking whether a package is there must not import it')\n")
    importlib.invalidate_caches()


def bakeoff(*words: str) -> str:
    done = CliRunner().invoke(main, ["models", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("usd_per_million_tokens = 1", "usd_source and usd_date missing: a price is usd_per_million_tokens, usd_source, usd_date together"),
        ('usd_per_million_tokens = 1\nusd_source = "a page"\ndim = 8', "usd_date missing"),
        ("usd_per_million_tokens = 1\nusd_date = 2026-01-02\ndim = 8", "usd_source missing"),
        ('usd_source = "a page"\nusd_date = 2026-01-02\ndim = 8', "usd_per_million_tokens missing"),
        ('usd_per_million_tokens = 0\nusd_source = ""\nusd_date = 2026-01-02\ndim = 8', "usd_source missing"),
        (PRICE, "dim is missing: of a model behind an API nothing else says it"),
        ("mrl_dims = [16, 32]", r"mrl_dims \[16, 32\] should be falling, each once"),
        ("mrl_dims = [32, 32, 16]", r"mrl_dims \[32, 32, 16\] should be falling, each once"),
        ("dim = 32\nmrl_dims = [32, 16]", r"mrl_dims \[32, 16\] should be below dim 32"),
        ("dim = 32\nmrl_dims = [64, 16]", r"mrl_dims \[64, 16\] should be below dim 32"),
        ('tasks = ["poetry"]', r"Invalid enum value 'poetry' - at `\$.tasks"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused_by_name(tmp_path, monkeypatch, lines, said):
    with pytest.raises(OptionError, match=f"^catalog.toml, 'hash/64': {said}"):
        entries_of(tmp_path, monkeypatch, f'["hash/64"]\n{lines}\n')


def test_a_model_behind_an_api_needs_a_dim_even_without_a_price(tmp_path, monkeypatch):
    add_provider(tmp_path, monkeypatch, "paid", PAID)
    with pytest.raises(OptionError, match=r"^catalog.toml, 'paid/x': dim is missing"):
        entries_of(tmp_path, monkeypatch, '["paid/x"]\nlicence = "API terms"\n')


@pytest.mark.parametrize(
    "lines", ["", "mrl_dims = [32]", "dim = 64\nmrl_dims = [32]", f"dim = 64\n{PRICE}", f"dim = 64\n{PRICE.replace('0.5', '0')}"]
)
def test_an_entry_without_contradictions_is_taken(tmp_path, monkeypatch, lines):
    assert list(entries_of(tmp_path, monkeypatch, f'["hash/64"]\n{lines}\n')) == ["hash/64"]


def test_models_of_one_space_are_of_one_provider_and_dim():
    spaces: dict[str, set[tuple[str, int | None]]] = {}
    for name, known in catalog.entries().items():
        if known.space:
            spaces.setdefault(known.space, set()).add((name.partition("/")[0], known.dim))
    assert {"voyage-4"} <= set(spaces)
    assert {space: len(found) for space, found in spaces.items()} == dict.fromkeys(spaces, 1)


@pytest.mark.parametrize("name", [name for name, known in catalog.entries().items() if known.licence == "API terms"])
def test_an_api_entry_says_what_a_request_and_a_chooser_need(name):
    known = catalog.entries()[name]
    assert known.dim
    assert known.max_tokens
    assert known.request_items
    assert known.tasks
    assert (known.max_tokens >= 8000) == ("long" in known.tasks)
    assert ("image" in known.modality) == ("image" in known.tasks)
    assert known.request_tokens is None or known.request_tokens >= known.max_tokens
    assert known.tokenizer.partition(":")[0] in ("", "tiktoken", "hub")


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (Wish(), ["hash/64", "hash/org/name", "paid/cheap", "paid/dear", "paid/secret"]),
        (Wish(task="code"), ["paid/cheap", "paid/dear", "paid/secret"]),
        (Wish(task="image"), []),
        (Wish(max_usd=0), ["hash/64", "hash/org/name"]),
        (Wish(max_usd=0.5), ["hash/64", "hash/org/name", "paid/cheap"]),
        (Wish(max_usd=1.99), ["hash/64", "hash/org/name", "paid/cheap"]),
        (Wish(mrl=True), ["hash/64", "paid/dear"]),
        (Wish(mrl=True, task="code", max_usd=3), ["paid/dear"]),
        (Wish(can_run=True), ["hash/64", "hash/org/name"]),
    ],
)
def test_a_wish_leaves_what_fits_it(shop, wish, found):
    assert names(wish) == found


@pytest.mark.parametrize(("wish", "unpriced"), [(Wish(max_usd=1), 1), (Wish(max_usd=1, task="english"), 0), (Wish(), 0)])
def test_models_of_unknown_price_are_counted_when_the_price_matters(shop, wish, unpriced):
    assert models.fitting(models.listed(), wish).unpriced == unpriced


def test_an_unknown_task_is_an_error_that_names_the_nearest():
    with pytest.raises(OptionError, match=r"^task 'cod' is not one of english, multilingual, code, long, image - did you mean 'code'\?$"):
        models.fitting((), Wish(task="cod"))


def test_what_is_missing_is_what_to_do(shop, monkeypatch):
    assert models.missing("hash") == ""
    assert models.missing("paid") == "pip install paid_sdk, set PAID_KEY or PAID_TOKEN"
    install(shop)
    assert models.missing("paid") == "set PAID_KEY or PAID_TOKEN"
    monkeypatch.setenv("PAID_TOKEN", "one of them is enough")
    assert models.missing("paid") == ""
    assert names(Wish(can_run=True, task="code")) == ["paid/cheap", "paid/dear", "paid/secret"]


def test_a_key_in_the_env_file_of_this_folder_counts(shop):
    install(shop)
    (shop / ".env").write_text("PAID_KEY=abcdefgh\n")
    assert models.missing("paid") == ""


def test_a_package_inside_a_package_that_is_not_there_is_missing(tmp_path, monkeypatch):
    add_provider(tmp_path, monkeypatch, "deep", '"""``deep``."""\nPACKAGE = "not_here.inside"\n')
    assert models.missing("deep") == "pip install not_here.inside"


def test_rows_show_everything_native_dimension_first(shop):
    rows = {entry.name: entry.row() for entry in models.listed()}
    todo = "pip install paid_sdk, set PAID_KEY or PAID_TOKEN"
    assert rows == {
        "hash/64": ("hash/64", "native, 32, 16", "–", "0", "MIT", "english", "yes"),
        "hash/org/name": ("hash/org/name", "native", "–", "0", "MIT", "multilingual", "downloads from the hub"),
        "paid/cheap": ("paid/cheap", "8", "32,000", "0.5 (2026-11-12)", "API terms", "code, long", todo),
        "paid/dear": ("paid/dear", "8, 4", "–", "2 (2026-11-12)", "API terms", "code", todo),
        "paid/secret": ("paid/secret", "8", "–", "unknown", "API terms", "code", todo),
    }
    assert all(len(row) == len(models.HEADINGS) for row in rows.values())


def test_the_command_prints_the_providers_and_the_table(shop, monkeypatch):
    monkeypatch.setenv("PAID_KEY", "planted-key-4711")
    install(shop)
    printed = bakeoff()
    assert "\nbm25: the lexical floor" in printed
    assert "paid/<name>: a stand-in." in printed
    line = next(line for line in printed.splitlines() if "paid/cheap" in line)
    assert [word.strip() for word in line.split("  ") if word.strip()] == [
        "paid/cheap", "8", "32,000", "0.5 (2026-11-12)", "API terms", "code, long", "yes",
    ]  # fmt: skip
    assert "planted-key-4711" not in printed


def test_the_command_filters(shop):
    assert "paid/cheap" in bakeoff("--task", "code")
    assert "hash/64" not in bakeoff("--task", "code")
    printed = bakeoff("--max-price", "1", "--task", "code")
    assert "paid/cheap" in printed
    assert "paid/dear" not in printed
    assert "paid/secret" not in printed
    assert printed.endswith("Left out because their price is not known: 1.\n")
    assert "paid/cheap" not in bakeoff("--mrl")
    assert "paid/dear" in bakeoff("--mrl")
    assert "paid/dear" not in bakeoff("--mrl", "--can-run")


def test_filters_that_leave_nothing_say_so(shop):
    assert bakeoff("--task", "image").endswith("\nNo model of the catalog fits.\n")
    assert bakeoff("--task", "code", "--max-price", "0").endswith(
        "\nNo model of the catalog fits.\nLeft out because their price is not known: 1.\n"
    )


def test_a_wrong_filter_exits_with_2():
    done = CliRunner().invoke(main, ["models", "--task", "cod"])
    assert (done.exit_code, done.output) == (
        2,
        "bakeoff: task 'cod' is not one of english, multilingual, code, long, image - did you mean 'code'?\n",
    )
    assert CliRunner().invoke(main, ["models", "--max-price", "-1"]).exit_code == 2


def test_no_name_is_broken_in_the_real_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    printed = bakeoff()
    rows = {line.split()[0] for line in printed.splitlines() if line.strip()}
    assert set(catalog.entries()) <= rows


def test_the_command_imports_nothing_heavy():
    code = "import sys; from harness.cli import main; main(['models', '--can-run'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & set(HEAVY)
