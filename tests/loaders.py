"""Tiny models in the real file layouts of the loaders, or a stand-in where a library is needed; each builder returns what a user writes."""

from __future__ import annotations

import json
import struct
import sys
import threading
import warnings
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

WORDS = (  # noqa: SIM905
    "A a cat The the Cats sleeps lot It ferry to island leaves harbour at nine unless storm warning is still in force that morning "
    "def add b return Die Katze schläft auf dem warmen Stein 猫 在 睡觉 find me q"
).split()


def vectors_file(path: Path, words: list[str] = WORDS, dim: int = 24) -> dict[str, np.ndarray]:
    """Random vectors in fastText's .vec format; returns what was written."""
    rng = np.random.default_rng(0)
    table = {word: rng.normal(size=dim).astype(np.float32) for word in words}
    lines = [" ".join([word, *(repr(float(x)) for x in vector)]) for word, vector in table.items()]
    path.write_text("\n".join([f"{len(words)} {dim}", *lines]) + "\n", encoding="utf-8")
    return table


def static(folder: Path, patch: pytest.MonkeyPatch) -> str:
    vectors_file(folder / "words.vec")
    return f"static/{folder / 'words.vec'}"


OPTIONS = {
    "lstm": {"dim": 7, "projection_dim": 6, "n_layers": 2, "cell_clip": 0.4, "proj_clip": 0.3, "use_skip_connections": True},
    "char_cnn": {
        "activation": "relu",
        "embedding": {"dim": 5},
        "filters": [[1, 4], [2, 5], [3, 4]],
        "n_highway": 2,
        "n_characters": 262,
        "max_characters_per_token": 50,
    },
}


def elmo_folder(folder: Path, options: dict = OPTIONS, *, distinct: bool = False) -> dict[str, np.ndarray]:
    """A random checkpoint under the names that allenai/bilm-tf dumps; returns its weights.

    ``distinct``: biases and what stands around a word weigh nothing, so that untrained vectors still tell words apart.
    """
    import h5py

    lstm, cnn, rng = options["lstm"], options["char_cnn"], np.random.default_rng(1)
    count, projection, cell = sum(number for _, number in cnn["filters"]), lstm["projection_dim"], lstm["dim"]
    shapes = {"char_embed": (261, cnn["embedding"]["dim"]), "CNN_proj/W_proj": (count, projection), "CNN_proj/b_proj": (projection,)}
    for at, (width, number) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{at}": (1, width, cnn["embedding"]["dim"], number), f"CNN/b_cnn_{at}": (number,)}
    for at in range(cnn["n_highway"]):
        for gate in ("carry", "transform"):
            shapes |= {f"CNN_high_{at}/W_{gate}": (count, count), f"CNN_high_{at}/b_{gate}": (count,)}
    for direction in (0, 1):
        for layer in range(lstm["n_layers"]):
            name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {f"{name}/W_0": (2 * projection, 4 * cell), f"{name}/B": (4 * cell,), f"{name}/W_P_0": (cell, projection)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    if distinct:
        weights["char_embed"][256:] = 0
        weights |= {name: np.zeros_like(array) for name, array in weights.items() if array.ndim == 1}
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "weights.hdf5", "w") as file:
        for name, array in weights.items():
            file.create_dataset(name, data=array)
    return weights


def elmo(folder: Path, patch: pytest.MonkeyPatch) -> str:
    elmo_folder(folder, distinct=True)
    return f"elmo/{folder}"


def tokenizer_file(folder: Path, truncation: int | None = None) -> None:
    """A word-level tokenizer with [CLS] and [SEP] over WORDS."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    own = Tokenizer(models.WordLevel({word: at for at, word in enumerate([*marks, *WORDS])}, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    if truncation:
        own.enable_truncation(truncation)
        own.enable_padding(length=truncation)
    own.save(str(folder / "tokenizer.json"))


def graph_file(
    path: Path, *, rows: int | str = "batch", length: int | str = "tokens", types: bool = True, quantized: bool = False
) -> np.ndarray:
    """A graph whose token vectors are rows of a table, plus one for their type; returns the table ``(words, 8)``."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(2)
    table = rng.normal(size=(len(WORDS) + 4, 8)).astype(np.float32)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["words"])]
    if types:
        nodes += [
            helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
            helper.make_node("Add", ["words", "kinds"], ["plain"]),
        ]
    else:
        nodes += [helper.make_node("Identity", ["words"], ["plain"])]
    if quantized:
        nodes += [helper.make_node("DynamicQuantizeLinear", ["plain"], ["small", "scale", "zero"])]
        nodes += [helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["last_hidden_state"])]
    else:
        nodes += [helper.make_node("Identity", ["plain"], ["last_hidden_state"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, [rows, length]) for name in names]
    out = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [rows, length, 8])
    weights = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.zeros((2, 8), dtype=np.float32), "types")]
    graph = helper.make_graph(nodes, "tiny", ports, [out], weights)
    path.parent.mkdir(exist_ok=True, parents=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return table


POOLING = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def onnx_folder(folder: Path, pooling: str = "mean", **options: object) -> np.ndarray:
    """A folder with a graph, a tokenizer, 30 positions and a pooling."""
    tokenizer_file(folder)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8, "max_position_embeddings": 200}))
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 8, POOLING[pooling]: True}))
    return graph_file(folder / "model.onnx", **options)


def onnx(folder: Path, patch: pytest.MonkeyPatch) -> str:
    onnx_folder(folder)
    return f"onnx/{folder}"


HEAD = {"general.architecture": "tiny-bert", "tiny-bert.context_length": 512, "tiny-bert.embedding_length": 32, "tiny-bert.pooling_type": 1}


def gguf_file(path: Path, head: dict[str, object] = HEAD) -> None:
    """The head of a GGUF file of version 3, with a list of tokens, and nothing behind it."""
    said = b""
    for key, value in {"tokenizer.ggml.tokens": ["a", "bc"], "tokenizer.ggml.scores": [0.5, 1.5], **head}.items():
        said += _text(key)
        if isinstance(value, str):
            said += struct.pack("<I", 8) + _text(value)
        elif isinstance(value, list):
            texts = isinstance(value[0], str)
            said += struct.pack("<IIQ", 9, 8 if texts else 6, len(value))
            said += b"".join(_text(one) if texts else struct.pack("<f", one) for one in value)
        else:
            said += struct.pack("<II", 4, value)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2 + len(head)) + said)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def token(word: str) -> int:
    """The stand-in's token of a word."""
    return 3 + zlib.crc32(word.lower().strip(".").encode()) % 100_000


class Server:
    """xllamacpp's Server as far as gguf/ uses it: words are tokens between 1 and 2; a text is the normalised sum of drawn directions."""

    def __init__(self, params: SimpleNamespace) -> None:
        self.params = params
        if not params.embedding:
            raise RuntimeError("Failed to init server, please check the input params.")

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert (self.path, asked["add_special"]) == ("/tokenize", True)
                body = json.dumps({"tokens": [1, *map(token, asked["content"].split()), 2]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.listening_address = f"http://127.0.0.1:{self.http.server_port}"

    def handle_embeddings(self, asked: dict) -> dict:
        if any(len(ids) > self.params.n_ubatch for ids in asked["input"]):
            return {"error": {"message": "input is too large to process"}}
        sums = [np.sum([np.random.default_rng(one).normal(size=32) for one in ids], axis=0) for ids in asked["input"]]
        rows = [{"index": at, "embedding": (row / np.linalg.norm(row)).tolist()} for at, row in enumerate(sums)]
        return {"data": rows[::-1], "usage": {"prompt_tokens": sum(map(len, asked["input"]))}}


def xllamacpp(patch: pytest.MonkeyPatch) -> list[Server]:
    """Put the stand-in where xllamacpp is imported from; returns the servers as they are started."""
    started: list[Server] = []

    def start(params: SimpleNamespace) -> Server:
        started.append(Server(params))
        return started[-1]

    package = SimpleNamespace(CommonParams=lambda: SimpleNamespace(model=SimpleNamespace()), Server=start, llama_pooling_type=int)
    patch.setitem(sys.modules, "xllamacpp", package)
    return started


def gguf(folder: Path, patch: pytest.MonkeyPatch) -> str:
    xllamacpp(patch)
    gguf_file(folder / "tiny.gguf")
    return f"gguf/{folder / 'tiny.gguf'}"


def mteb_model(patch: pytest.MonkeyPatch, name: str = "mine/words", **other: object) -> list[dict]:
    """Add a model to mteb's registry: sums of drawn directions over the words behind the prompt that a role has. Returns its calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mteb.models.abs_encoder import AbsEncoder
        from mteb.models.model_implementations import MODEL_REGISTRY
        from mteb.models.model_meta import ModelMeta
    calls: list[dict] = []

    class Words(AbsEncoder):
        def __init__(self, model: str, revision: str | None = None, device: str | None = None, **rest: object) -> None:
            self.model, self.model_prompts = None, {"query": "find me ", "document": "", "SciFact": "fact "}

        def encode(self, inputs: object, *, task_metadata: object, prompt_type: object, **rest: object) -> np.ndarray:
            texts = [text for batch in inputs for text in batch["text"]]
            prompt = self.model_prompts[self.get_prompt_name(task_metadata, prompt_type)]
            calls.append({"texts": texts, "prompt": prompt, "role": prompt_type.value})
            return np.array(
                [[*np.sum([np.random.default_rng(token(w)).normal(size=32) for w in (prompt + t).split()], axis=0)] for t in texts]
            )

    facts = {
        "languages": None,
        "release_date": None,
        "n_parameters": None,
        "memory_usage_mb": None,
        "max_tokens": 99.0,
        "embed_dim": [16, 32],
    }
    facts |= {"license": "mit", "open_weights": True, "public_training_code": None, "public_training_data": None, "framework": ["NumPy"]}
    facts |= {"similarity_fn_name": "cosine", "use_instructions": False, "training_datasets": None, "revision": "r1"}
    patch.setitem(MODEL_REGISTRY, name, ModelMeta(name=name, **{"loader": Words} | facts | other))
    return calls


def mteb(folder: Path, patch: pytest.MonkeyPatch) -> str:
    mteb_model(patch)
    return "mteb/mine/words"


BUILT = {build.__name__: build for build in (static, elmo, onnx, gguf, mteb)}
"""Loaders by name, each with what builds a model for it: ``(folder, patch)`` to a spec."""
