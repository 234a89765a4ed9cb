"""What leaves for each API: roles, dimensions, images and keys, in the API's own words, and to nobody else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from apis import APIS
from asking import DATA, measure, numbers, reason, remote
from fault_server import FaultServer, Seen

from harness import catalog
from harness.dataset import Dataset, Document, Query
from harness.dispatch import Remote

pytest_plugins = ("api_fixtures",)
pytestmark = pytest.mark.usefixtures("with_keys")
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
ENCODED = base64.b64encode(PNG).decode()
ROLES = {  # the word for documents, for queries; of the others the texts show what they are
    "jina": ("retrieval.passage", "retrieval.query"),
    "nomic": ("search_document", "search_query"),
    "gemini": ("RETRIEVAL_DOCUMENT", "RETRIEVAL_QUERY"),
    "cohere": ("search_document", "search_query"),
    **dict.fromkeys(("voyage", "voyage-multimodal", "voyage-context"), ("document", "query")),
}
IMAGES: dict[str, Any] = {  # an image as a part of a request
    "voyage-multimodal": {"type": "image_base64", "image_base64": f"data:image/png;base64,{ENCODED}"},
    "cohere": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}},
    "jina": {"image": ENCODED},
    "gemini": {"inlineData": {"mimeType": "image/png", "data": ENCODED}},
}
DIMENSIONS = {
    **dict.fromkeys(("openai", "azure", "openai-compatible", "jina"), "dimensions"),
    **dict.fromkeys(("mistral", "cohere", "voyage", "voyage-multimodal", "voyage-context"), "output_dimension"),
    "nomic": "dimensionality",
}


def documents(server: FaultServer) -> list[Seen]:
    return [seen for seen in server.seen if "number" in seen.texts[0]]  # as every document of DATA has, and no query


def queries(server: FaultServer) -> list[Seen]:
    return [seen for seen in server.seen if "number" not in seen.texts[0]]


@pytest.mark.parametrize("name", APIS)
def test_roles_dimensions_and_everything_else_arrive_in_the_words_of_the_api(name: str, in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, name), in_memory))
    as_document, as_query = ROLES.get(name, ("", ""))
    assert documents(server)
    assert queries(server)
    assert {seen.role for seen in documents(server)} == {as_document}
    assert {seen.role for seen in queries(server)} == {as_query}
    assert sorted(text for seen in documents(server) for text in seen.texts) == sorted(f"{d.title} {d.text}" for d in DATA.documents)
    assert sorted(text for seen in queries(server) for text in seen.texts) == sorted(q.text for q in DATA.queries)
    for seen in server.seen:
        body = seen.body["requests"][0] if name == "gemini" else seen.body
        assert body[DIMENSIONS.get(name, "outputDimensionality")] == 32


@pytest.mark.parametrize(
    "model", ["openai/a-model", "mistral/a-model", "cohere/a-model", "voyage/a-model", "jina/a-model", "nomic/a-model"]
)
def test_a_dimension_is_asked_for_of_models_that_the_catalog_does_not_know(model: str, in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, model.partition("/")[0], model=f"{model}?dim=64"), in_memory))
    assert {seen.dim for seen in server.seen} == {32}


@pytest.mark.parametrize("name", ["openai", "azure", "openai-compatible"])
def test_only_fields_that_the_protocol_knows_are_sent(name: str, in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, name), in_memory))
    assert {frozenset(seen.body) for seen in server.seen} == {frozenset(("input", "model", "encoding_format", "dimensions"))}
    if name == "azure":
        assert {seen.path for seen in server.seen} == {"/azure/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-10-21"}


@pytest.mark.parametrize(
    ("model", "start"),
    [
        ("gemini/gemini-embedding-2", ("title: Title 0 | text: ", "task: search result | query: ")),
        ("openai-compatible/a-model?dim=64&query_prompt=ask: &document_prompt=read: ", ("read: Title 0 ", "ask: ")),
    ],
)
def test_roles_that_are_read_in_the_text_are_put_in_front_of_it(model: str, start: tuple[str, str], in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, model.partition("/")[0], model=model), in_memory))
    assert any(text.startswith(start[0]) for seen in documents(server) for text in seen.texts)
    assert all(text.startswith(start[1]) for seen in queries(server) for text in seen.texts)
    assert {seen.role for seen in server.seen} == {""}


@pytest.mark.parametrize(("task", "words"), [("code", ("code.passage", "code.query")), ("text-matching", ("text-matching",) * 2)])
def test_jina_has_other_tasks(task: str, words: tuple[str, str], in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, "jina", f"task={task}", model="jina/jina-embeddings-v4"), in_memory))
    assert ({seen.role for seen in documents(server)}, {seen.role for seen in queries(server)}) == ({words[0]}, {words[1]})
    assert all(seen.body["truncate"] is True for seen in server.seen)


def test_late_chunking_reads_one_document_a_request(in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, "jina", "late_chunking=true&request_items="), in_memory))
    assert all(seen.body["late_chunking"] is True for seen in server.seen)
    assert {len(seen.texts) for seen in server.seen} == {1}


@pytest.mark.parametrize("name", APIS)
def test_the_key_goes_into_one_header_and_no_other_secret_leaves(name: str, in_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {key for api in APIS.values() for key in api.keys}
    for key in others:
        monkeypatch.setenv(key, f"secret-of-{key}")
    for word in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_AD_TOKEN"):
        monkeypatch.setenv(word, f"secret-of-{word}")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: secret of a gateway\nAuthorization: Bearer secret of a gateway")
    (in_memory / "netrc").write_text("default login me password secret\n")
    (in_memory / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(in_memory / "netrc"))
    with FaultServer() as server:
        numbers(measure(remote(server, name), in_memory / "store"))
    header, start = APIS[name].header
    for seen in server.seen:
        assert seen.headers[header] == f"{start}secret-of-{APIS[name].keys[0]}"
        assert not [value for word, value in seen.headers.items() if word != header and "secret" in value]
        assert "secret" not in f"{seen.path} {seen.body}"


def test_openai_itself_is_told_the_organisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    model = catalog.load("openai/text-embedding-3-small")
    assert isinstance(model, Remote)
    model.prepare()
    assert model.endpoint._client.default_headers["OpenAI-Organization"] == "org-1"  # type: ignore[attr-defined]


def pictures(folder: Path) -> Dataset:
    (folder / "dot.png").write_bytes(PNG)
    found = [Document("picture", "", image=folder / "dot.png"), Document("text", "a storm in the harbour")]
    return Dataset.build("pictures", found, [Query("q", "harbour storm")], {"q": {"text": 1}})


@pytest.mark.parametrize("name", IMAGES)
def test_images_arrive_as_each_api_wants_them(name: str, in_memory: Path) -> None:
    with FaultServer() as server:
        numbers(measure(remote(server, name, model=APIS[name].image), in_memory, pictures(in_memory)))
    assert [seen.images for seen in server.seen if seen.images[0] or len(seen.images) > 1] == [[None, PNG]]
    body = next(seen.body for seen in server.seen if PNG in seen.images)
    items = body.get("input") or body.get("inputs") or [one["content"] for one in body["requests"]]
    assert items[1] == (IMAGES[name] if name == "jina" else {"parts" if name == "gemini" else "content": [IMAGES[name]]})


def test_what_images_count_says_nothing_of_what_texts_count(in_memory: Path) -> None:
    (in_memory / "dot.png").write_bytes(PNG)
    data = Dataset.build(
        "pictures", [Document("picture", "", image=in_memory / "dot.png")], DATA.queries, {q.id: {"picture": 1} for q in DATA.queries}
    )
    with FaultServer(count=lambda text: len(text.split()) if text else 1000) as server:
        numbers(measure(remote(server, "cohere", "request_items=2&request_tokens=500"), in_memory, data))
    assert max(len(seen.texts) for seen in server.seen if seen.texts[0]) == 2


@pytest.mark.parametrize("name", sorted(set(IMAGES) - {"jina"}))
def test_a_text_and_its_image_make_one_vector(name: str, in_memory: Path) -> None:
    (in_memory / "dot.png").write_bytes(PNG)
    both = Document("both", "a storm", title="The harbour", image=in_memory / "dot.png")
    data = Dataset.build("both", [both], [Query("q", "storm")], {"q": {"both": 1}})
    with FaultServer() as server:
        numbers(measure(remote(server, name, model=APIS[name].image), in_memory, data))
    assert next((seen.texts, seen.images) for seen in server.seen) == (["The harbour a storm"], [PNG])


def test_jina_says_that_it_reads_a_text_or_an_image(in_memory: Path) -> None:
    (in_memory / "dot.png").write_bytes(PNG)
    both = Document("both", "a storm", image=in_memory / "dot.png")
    data = Dataset.build("both", [both], [Query("q", "storm")], {"q": {"both": 1}})
    with FaultServer() as server:
        found = reason(measure(remote(server, "jina", model="jina/jina-embeddings-v4"), in_memory, data))
    assert found == f"reads a text or an image, not both at once, as with {in_memory / 'dot.png'}"
    assert not server.seen


@pytest.mark.parametrize(
    ("name", "model"), [*((name, "") for name in APIS if not APIS[name].image or name == "jina"), ("cohere", "cohere/embed-english-v3.0")]
)
def test_an_image_is_not_for_a_model_that_reads_text_and_nothing_is_sent(name: str, model: str, in_memory: Path) -> None:
    with FaultServer() as server:
        found = reason(measure(remote(server, name, "request_items=1", model=model), in_memory, pictures(in_memory)))
    assert found == f"reads text only, but {in_memory / 'dot.png'} is an image"
    assert not server.seen
