"""Task instructions: who says them, who wins, and that they are part of what identifies a vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make_dataset, write_beir

import harness
from harness import beir, catalog, store
from harness.embedder import Item, Settings
from harness.errors import DatasetError, OptionError

TEMPLATE = "Instruct: {instruction}\nQuery: "
SPEC = "hash/64?query_prompt=Instruct:%20{instruction}%0AQuery:%20"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    folder = write_beir(make_dataset(), tmp_path / "data")
    (folder / "dataset.toml").write_text('name = "told"\n[instructions]\nquery = "Find the ticket"\ndocument = "A ticket"\n')
    return folder


def prompts_of(spec: str, instructions: dict[str, str] | None = None) -> tuple[str, str]:
    model = catalog.load(spec, instructions or {}).model
    return model.query_prompt, model.document_prompt


def test_the_dataset_says_its_instructions(told: Path) -> None:
    about = beir.read(told).about
    assert about.instructions == {"query": "Find the ticket", "document": "A ticket"}
    assert beir.read(told).facts()["instructions"] == about.instructions
    assert about.name == "told"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[instructions]\nquerry = "x"', r"\[instructions\] unknown key 'querry'; known: query, document - did you mean 'query'\?"),
        ("[instructions]\nquery = 3", r"\[instructions\] query = 3 should say the task"),
        ('[instructions]\nquery = " "', "should say the task"),
        ('instructions = "Find"', r"instructions = 'Find' should be a table, \[instructions\]"),
        ('[instruction]\nquery = "x"', "unknown key 'instruction'.*did you mean 'instructions'"),
    ],
)
def test_mistakes_in_instructions_are_named(told: Path, lines: str, said: str) -> None:
    (told / "dataset.toml").write_text(lines)
    with pytest.raises(DatasetError, match=said):
        beir.read(told)


def test_the_users_word_counts_before_the_datasets_and_that_before_the_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Settings(
        query_prompt=TEMPLATE, instruction="the catalog's", document_prompt="Represent {instruction}: ", document_instruction="it"
    )
    monkeypatch.setattr(catalog, "entries", lambda: {"hash/64": known})
    assert prompts_of("hash/64") == ("Instruct: the catalog's\nQuery: ", "Represent it: ")
    assert prompts_of("hash/64", {"query": "the dataset's"}) == ("Instruct: the dataset's\nQuery: ", "Represent it: ")
    assert prompts_of("hash/64?instruction=mine", {"query": "the dataset's"})[0] == "Instruct: mine\nQuery: "
    assert prompts_of("hash/64?document_instruction=mine", {"document": "the dataset's"})[1] == "Represent mine: "
    assert prompts_of("hash/64?query_prompt=q:%20", {"query": "the dataset's"})[0] == "q: "


def test_a_model_whose_prompt_has_no_room_for_an_instruction_does_not_hear_the_datasets() -> None:
    assert prompts_of("hash/64?query_prompt=query:%20", {"query": "Find", "document": "A"}) == ("query: ", "")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (SPEC, r"needs an instruction: add \?instruction=\.\.\., or \[instructions\] with query = \.\.\. to dataset.toml"),
        ("hash/64?instruction=Find", r"option 'instruction' has no effect: the query_prompt has no \{instruction\}"),
        ("hash/64?query_prompt=q&document_instruction=Find", "option 'document_instruction' has no effect"),
        ("bm25?instruction=Find", "option 'instruction' has no effect on this provider"),
    ],
)
def test_an_instruction_that_is_missing_or_goes_nowhere_is_an_error(spec: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        catalog.load(spec)


def test_an_instruction_is_part_of_the_vectors_key_for_its_role_only() -> None:
    keys = [
        {role: store.keys(catalog.load(SPEC, {"query": text}).model, role, [Item("a")])[0] for role in ("query", "document")}  # type: ignore[arg-type]
        for text in ("Find the ticket", "Find the ferry")
    ]
    assert keys[0]["query"] != keys[1]["query"]
    assert keys[0]["document"] == keys[1]["document"]


def test_a_run_uses_the_datasets_instruction_and_says_the_whole_prompt(told: Path) -> None:
    board = harness.evaluate(told, [SPEC], dims=["native"], floors=False)
    assert board.results[0].model["query_prompt"] == "Instruct: Find the ticket\nQuery: "
    other = harness.evaluate(told, [f"{SPEC}&instruction=Another"], dims=["native"], floors=False)
    assert other.results[0].identity != board.results[0].identity


def test_other_prompts_replace_instruction_and_template_and_leave_other_options() -> None:
    spec = catalog.with_prompts("st/org/name?revision=abc&instruction=Find&query_prompt=x", "Instruct: a&b\nQuery: ", "")
    assert spec == "st/org/name?revision=abc&query_prompt=Instruct:%20a%26b%0AQuery:%20&document_prompt="
    options: dict[str, Any] = catalog._split(spec)[1]
    assert options == {"revision": "abc", "query_prompt": "Instruct: a&b\nQuery: ", "document_prompt": ""}
