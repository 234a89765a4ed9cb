"""Images: what is refused and how, what reaches a model, and that text and pictures find each other as hand-computed cosines say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import png
from pages import made, needs_chromium, opened
from PIL import Image
from towers import direct, tiny_clip, tiny_siglip

import harness
import reports
from harness import beir, catalog, images
from harness.dataset import Dataset, Document, Query
from harness.embedder import Item
from harness.errors import DatasetError, ModelError
from reports import drilldown

COLOURS = ("red", "green", "blue", "white", "black", "orange")


def draw(folder: Path, count: int = 6) -> list[Path]:
    """Pictures of noise over a colour: no two alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(0), []
    for at, colour in enumerate(COLOURS[:count]):
        base = np.asarray(Image.new("RGB", (24, 20), colour)).astype(int)
        pixels = np.clip(base + rng.integers(-90, 90, base.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{at}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_siglip(tmp_path_factory.mktemp("models") / "siglip")


def folder_with(tmp_path: Path, name: str, content: bytes | None) -> Path:
    (tmp_path / "qrels").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "corpus.jsonl").write_text(f'{{"_id": "d1", "text": "words"}}\n{{"_id": "d2", "image": "{name}"}}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "a dog"}\n')
    (tmp_path / "qrels" / "test.tsv").write_text("q1\td2\t1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.png", None, "does not exist"),
        ("text.jpg", b"this is no image", "is not an image that can be read; JPEG, PNG"),
        ("empty.png", b"", "is not an image that can be read"),
        ("cut.png", png()[:60], "is broken"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image that can be read"),
    ],
)
def test_a_missing_or_broken_image_is_named_with_its_line_before_anything_is_embedded(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    folder = folder_with(tmp_path, name, content)
    with pytest.raises(DatasetError, match=f"corpus.jsonl:2: image .*{name} of 'd2' {said}"):
        beir.read(folder)
    with pytest.raises(DatasetError, match=f"image .*{name} of 'd2' {said}"):
        Dataset.build("made", [Document("d2", image=folder / name)], [Query("q1", "a dog")], {"q1": {"d2": 1}})


def test_an_image_cut_off_in_its_pixels_is_an_error_of_the_model_with_its_path(tmp_path: Path, clip: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(file, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(file.getvalue()[:1500])
    assert images.problem(tmp_path / "cut.jpg") == ""
    with pytest.raises(ModelError, match=r"image .*cut.jpg cannot be read: .*truncated"):
        ready(clip).embed([Item(image=tmp_path / "cut.jpg")], "document")
    assert images.thumbnail(tmp_path / "cut.jpg") == ""


def test_images_are_read_as_people_see_them(tmp_path: Path) -> None:
    see_through = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    see_through.save(tmp_path / "clear.png")
    assert images.read(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    assert images.read(tmp_path / "grey.png").getpixel((0, 0)) == (7, 7, 7)
    Image.new("P", (4, 4)).save(tmp_path / "palette.gif", transparency=0)
    assert images.read(tmp_path / "palette.gif").getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (8, 4))
    turned.getexif()[0x0112] = 6  # the camera was held upright
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert images.read(tmp_path / "turned.jpg").size == (4, 8)


def ready(folder: Path) -> Any:
    embedder: Any = catalog.load(f"st/{folder}")
    embedder.prepare()
    return embedder


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_each_tower_gets_its_own_kind_and_both_together_are_the_sum_of_unit_vectors(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(family)
    paths, texts = draw(tmp_path), ["a red dog", "the cat"]
    written, drawn = direct(folder / "0_CLIPModel" if family == "clip" else folder, texts, paths)
    embedder = ready(folder)
    mixed = [Item(image=paths[0]), Item(texts[0]), Item(image=paths[1]), Item(texts[1], image=paths[2]), Item(image=paths[3])]
    found = embedder.embed(mixed, "document")
    vectors = found.vectors / np.linalg.norm(found.vectors, axis=1, keepdims=True)
    joined = written[1] + drawn[2]
    expected = np.stack([drawn[0], written[0], drawn[1], joined / np.linalg.norm(joined), drawn[3]])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert [count > 0 for count in found.tokens] == [False, True, False, True, False]
    assert dict(embedder.model.options)["text and image"] == "sum of unit vectors"


def test_what_identifies_a_clip_folder_is_read_without_loading_it(clip: Path) -> None:
    embedder: Any = catalog.load(f"st/{clip}")
    assert embedder._pipeline is None
    assert (embedder.model.dim, embedder.model.max_tokens) == (12, 16)


def ranked(board: harness.Leaderboard, spec: str) -> dict[str, list[str]]:
    cell = next(result for result in board.results if result.spec == spec and result.dim == result.native_dim)
    return {query: list(ids) for query, ids in zip(cell.query_ids, cell.documents, strict=True)}


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_text_to_image_image_to_text_and_image_to_image_rank_as_hand_computed_cosines(
    family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(family)
    paths = draw(tmp_path / "pictures")
    texts = ["a red dog", "the cat", "a photo of green", "blue", "the dog of the cat", "red"]
    written, drawn = direct(folder / "0_CLIPModel" if family == "clip" else folder, texts, paths)
    of_text, of_image = (
        [Document(f"t{at}", text) for at, text in enumerate(texts)],
        [Document(f"i{at}", image=p) for at, p in enumerate(paths)],
    )
    ask_text, ask_image = [Query(f"q{at}", text) for at, text in enumerate(texts)], [Query(f"p{at}", image=p) for at, p in enumerate(paths)]
    spec = f"st/{folder}"
    for documents, queries, cosines in (
        (of_image, ask_text, written @ drawn.T),
        (of_text, ask_image, drawn @ written.T),
        (of_image, ask_image, drawn @ drawn.T),
    ):
        data = Dataset.build("pictures", documents, queries, {query.id: {documents[0].id: 1} for query in queries})
        board = harness.evaluate(data, [spec], dims=["native"], floors=False)
        found = ranked(board, spec)
        for query, row in zip(queries, cosines, strict=True):
            assert found[query.id] == [documents[at].id for at in np.argsort(-row)], query.id


def test_bm25_is_a_floor_where_there_is_text_and_says_so_where_there_is_none(tmp_path: Path, clip: Path) -> None:
    paths = draw(tmp_path / "pictures", 3)
    captioned = [Document(f"d{at}", f"number{at} dog", image=path) for at, path in enumerate(paths)]
    bare = [Document(document.id, image=document.image) for document in captioned]
    for documents, status in ((captioned, "ok"), (bare, "skipped")):
        data = Dataset.build("pictures", documents, [Query("q", "number1")], {"q": {"d1": 1}})
        board = harness.evaluate(data, [f"st/{clip}"], dims=["native"])
        assert not board.failed
        absences = {absence.spec: absence for absence in board.absences}
        assert ("bm25" in absences) == (status == "skipped")
    assert "no document has any" in absences["bm25"].reason


def test_a_model_of_texts_is_a_failed_row_on_pictures_and_embeds_no_path(tmp_path: Path) -> None:
    paths = draw(tmp_path / "pictures", 2)
    data = Dataset.build(
        "pictures", [Document(f"d{at}", image=path) for at, path in enumerate(paths)], [Query("q", "dog")], {"q": {"d1": 1}}
    )
    board = harness.evaluate(data, ["packaged/all-MiniLM-L6-v2"], dims=["native"])
    reason = next(absence.reason for absence in board.absences if absence.spec.startswith("packaged"))
    assert "reads text only" in reason
    assert board.failed


def test_a_model_that_joins_text_and_image_by_itself_is_refused_for_now(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = ready(clip)

    class Joined:
        modalities = ("text", "image", ("image", "text"))

    monkeypatch.setattr(embedder._pipeline, "model", Joined())
    with pytest.raises(ModelError, match="joins text and image in a way of its own"):
        embedder.embed([Item("a", image=draw(tmp_path, 1)[0])], "document")


def pictured() -> tuple[harness.Leaderboard, str]:
    from dataclasses import replace

    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (50, 96, 3), dtype=np.uint8)).save(file, "JPEG")
    import base64

    url = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    board = made(8, documents=30)
    return replace(board, pictures={"queries": {"q1": url}, "documents": dict.fromkeys(board.documents, url)}), url


def test_thumbnails_are_small_kept_in_the_evidence_and_only_of_what_is_shown(tmp_path: Path, clip: Path) -> None:
    Image.new("RGB", (1200, 400), "red").save(tmp_path / "large.jpg")
    documents = [Document(f"d{at:02}", image=tmp_path / "large.jpg", tags={"n": str(at)}) for at in range(30)]
    queries = [Query("q", image=tmp_path / "large.jpg")]
    data = Dataset.build("pictures", documents, queries, {"q": {"d00": 1}})
    board = harness.evaluate(data, [f"st/{clip}"], dims=["native"], out=tmp_path / "out", floors=False)
    assert set(board.pictures["documents"]) == {"d00", *board.results[0].documents[0][:10]}
    url = board.pictures["queries"]["q"]
    import base64

    small = Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))))
    assert small.size == (96, 32)
    assert harness.load(tmp_path / "out").pictures == board.pictures
    assert "pictures" in json.loads((tmp_path / "out" / "evidence.json").read_text())


def test_thumbnails_stop_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import evidence

    paths = draw(tmp_path)
    documents = [Document(f"d{at}", image=path) for at, path in enumerate(paths)]
    data = Dataset.build("pictures", documents, [Query("q", "dog")], {"q": {"d0": 1}})
    monkeypatch.setattr(evidence, "_PICTURES", 1)
    assert list(evidence.pictures(data, documents)["documents"]) == ["d0"]


def test_the_drill_down_has_the_thumbnails_beside_the_texts() -> None:
    board, url = pictured()
    data = drilldown.data(board, harness.choose(board))
    assert all(len(document) == 3 and document[2] == url for document in data["documents"])
    assert [query.get("picture") for query in data["queries"]][:3] == [None, url, None]
    assert all(len(document) == 2 for document in drilldown.data(made(4), harness.choose(made(4)))["documents"])


@needs_chromium
def test_the_page_shows_thumbnails_with_a_text_for_those_who_cannot_see_them(tmp_path: Path) -> None:
    board, url = pictured()
    with opened(reports.write(board, tmp_path)["leaderboard.html"]) as reader:
        assert reader.locator("img").count() == 0
        reader.get_by_label("Order").select_option("given")
        reader.locator(".query summary").nth(1).click()
        reader.locator(".inside").wait_for()
        pictures = reader.locator(".query").nth(1).locator("img.thumb")
        pictures.first.scroll_into_view_if_needed()
        assert pictures.first.get_attribute("alt") == board.queries["q1"]
        assert pictures.nth(1).get_attribute("alt") == board.documents["d1"]
        assert pictures.nth(1).get_attribute("src") == url
        reader.wait_for_function("[...document.querySelectorAll('img.thumb')].filter(one => one.complete).length > 1")
        assert pictures.first.evaluate("image => [image.naturalWidth, image.width]") == [96, 96]


@needs_chromium
def test_the_page_shows_no_picture_that_was_not_made_for_it(tmp_path: Path) -> None:
    from dataclasses import replace

    board = replace(made(4), pictures={"queries": {"q0": "https://example.org/x.png"}, "documents": {"d0": "javascript:alert(1)"}})
    with opened(reports.write(board, tmp_path)["leaderboard.html"]) as reader:
        reader.get_by_label("Order").select_option("given")
        reader.locator(".query summary").first.click()
        reader.locator(".inside").wait_for()
        assert reader.locator("img").count() == 0
