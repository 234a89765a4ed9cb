"""Code that comes with a model: run only with consent to one commit, in folders, in hub ids, and where another repository has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from harness import catalog
from harness.embedder import Item
from harness.errors import ModelError, OptionError

COMMIT, CODE_COMMIT = "1" * 40, "2" * 40
CODE = """
from pathlib import Path
import torch
from torch import nn
from transformers import {base}Config, {base}Model
from transformers.modeling_outputs import BaseModelOutput

Path({ran!r}).touch()


class OwnConfig({base}Config):
    model_type = "own"


class OwnModel({base}Model):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.proj = nn.Linear(32, 8)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None{more}, **rest):
        hidden = super().forward(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        {vector}
"""
CODET5P = {"base": "T5Encoder", "more": "", "vector": "return nn.functional.normalize(self.proj(hidden[:, 0]), dim=-1)"}
NV_EMBED = {
    "base": "Bert",
    "more": ", pool_mask=None",
    "vector": "m = pool_mask[:, :, None]; return {'sentence_embeddings': self.proj((hidden * m).sum(1) / m.sum(1))}",
}

PLAIN = {"base": "Bert", "more": "", "vector": "return BaseModelOutput(last_hidden_state=hidden)"}


def own(folder: Path, code: dict[str, str], ran: Path, *, upstream: str = "") -> Path:
    """A checkpoint whose architecture is its own code's, which leaves the file ``ran`` when it runs."""
    import torch
    import transformers

    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2, "is_encoder_decoder": True, "vocab_size": 300}
    made = getattr(transformers, f"{code['base']}Model" if code["base"] == "Bert" else "T5EncoderModel")
    config = transformers.BertConfig(**tiny.SHAPE) if code["base"] == "Bert" else transformers.T5Config(**shape)
    model = made(config)
    model.proj = torch.nn.Linear(32, 8)
    model.save_pretrained(folder)
    source = CODE.format(ran=str(ran), **code).replace("T5EncoderConfig", "T5Config")
    (folder / "own.py").write_text(source)
    ref = f"{upstream}--own" if upstream else "own"
    tiny.change(
        folder / "config.json", model_type="own", embed_dim=8, auto_map={"AutoConfig": f"{ref}.OwnConfig", "AutoModel": f"{ref}.OwnModel"}
    )
    tiny.tokenizer(folder, "bert")
    return folder


def rows(folder: Path, code: dict[str, str], texts: list[str], skipped: int = 0) -> np.ndarray:
    """The vectors by hand, one text at a time, without that code."""
    import torch
    import transformers

    kind = transformers.BertModel if code["base"] == "Bert" else transformers.T5EncoderModel
    config = json.loads((folder / "config.json").read_text())
    shape = {key: value for key, value in config.items() if key not in ("auto_map", "model_type", "architectures")}
    made = kind(kind.config_class(**shape)).eval()
    made.proj = torch.nn.Linear(32, 8)
    from safetensors.torch import load_file

    made.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    found = []
    for text in texts:
        ids = transformers.PreTrainedTokenizerFast.from_pretrained(folder)(text)["input_ids"]
        with torch.inference_mode():
            hidden = made(torch.tensor([ids])).last_hidden_state[0]
            if code is CODET5P:
                found.append(torch.nn.functional.normalize(made.proj(hidden[0]), dim=-1))
            else:
                found.append(made.proj(hidden[skipped:].mean(dim=0)))
    return torch.stack(found).numpy()


def test_nothing_of_a_folder_runs_without_consent(tmp_path):
    folder = own(tmp_path / "model", CODET5P, tmp_path / "ran")
    for spec in (f"hf/{folder}?pooling=own", f"st/{folder}"):
        with pytest.raises(ModelError, match=r"add \?trust_remote_code=true"):
            catalog.load(spec).prepare()
    assert not (tmp_path / "ran").exists()


def test_codet5p_gives_what_its_own_code_projects_and_normalises(tmp_path):
    folder = own(tmp_path / "model", CODET5P, tmp_path / "ran")
    embedder = catalog.load(f"hf/{folder}?pooling=own&trust_remote_code=true")
    assert (embedder.model.dim, embedder.model.pooling) == (8, "own")
    embedder.prepare()
    texts = ["def f", "a", "return the longest of them"]
    found = embedder.embed([Item(text) for text in texts], "document").vectors
    np.testing.assert_allclose(found, rows(folder, CODET5P, texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (tmp_path / "ran").exists()


def test_nv_embed_is_told_which_tokens_are_no_prompt(tmp_path):
    folder = own(tmp_path / "model", NV_EMBED, tmp_path / "ran")
    embedder = catalog.load(f"hf/{folder}?pooling=own&trust_remote_code=true&query_prompt=find: ")
    embedder.prepare()
    texts = ["a cat", "b"]
    expected = rows(folder, NV_EMBED, [f"find: {text}" for text in texts], skipped=1 + len("find: "))
    np.testing.assert_allclose(embedder.embed([Item(text) for text in texts], "query").vectors, expected, atol=1e-5)
    documents = embedder.embed([Item(text) for text in texts], "document").vectors
    np.testing.assert_allclose(documents, rows(folder, NV_EMBED, texts), atol=1e-5)


@pytest.mark.parametrize("provider", ["st", "hf"])
@pytest.mark.parametrize("given", ["", "&revision=main", "&revision=1a2b3c"])
def test_consent_to_a_hub_id_names_a_commit(provider, given):
    with pytest.raises(OptionError, match=r"runs code out of org/name, but .*say revision=<its commit, 40 hex digits>; python -c"):
        catalog.load(f"{provider}/org/name?trust_remote_code=true{given}")


@pytest.mark.parametrize("provider", ["st", "hf"])
def test_code_in_another_repository_needs_its_own_commit(tmp_path, provider):
    folder = own(tmp_path / "model", CODET5P, tmp_path / "ran", upstream="org/code")
    with pytest.raises(OptionError, match=r"runs code out of org/code, but no code_revision is given.*say code_revision=<its commit"):
        catalog.load(f"{provider}/{folder}?trust_remote_code=true")
    with pytest.raises(OptionError, match="code_revision 'main' may change"):
        catalog.load(f"{provider}/{folder}?trust_remote_code=true&code_revision=main")
    config = json.loads((folder / "config.json").read_text())
    tiny.change(folder / "config.json", auto_map=config["auto_map"] | {"AutoTokenizer": ["org/other--tokens.Own", None]})
    with pytest.raises(OptionError, match="takes code from org/code, org/other, and one code_revision cannot pin them all"):
        catalog.load(f"{provider}/{folder}?trust_remote_code=true&code_revision={CODE_COMMIT}")


def test_modules_of_its_own_beside_code_from_elsewhere_cannot_be_pinned(tmp_path):
    folder = own(tmp_path / "model", CODET5P, tmp_path / "ran", upstream="org/code")
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]))
    with pytest.raises(OptionError, match="one commit cannot pin both; copy the code into a folder"):
        catalog.load(f"st/{folder}?trust_remote_code=true&code_revision={CODE_COMMIT}")


def test_the_catalogs_commits_are_for_whoever_consents():
    name = "st/Alibaba-NLP/gte-base-en-v1.5"
    assert catalog.settings(name)[1].code_revision is None
    trusted = catalog.settings(f"{name}?trust_remote_code=true")[1]
    assert (len(trusted.revision or ""), len(trusted.code_revision or "")) == (40, 40)


def lay(hub: Path, repository: str, commit: str) -> Path:
    """A repository in the hub's cache layout."""
    home = hub / "hub" / ("models--" + repository.replace("/", "--"))
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text(commit)
    folder = home / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("provider", ["hf", "st"])
def test_a_hub_id_with_code_elsewhere_runs_the_commits_that_were_named(tmp_path, provider):
    hub = tmp_path / "hub"
    folder = own(lay(hub, "org/model", COMMIT), PLAIN, tmp_path / "ran", upstream="org/code")
    (folder / "own.py").rename(lay(hub, "org/code", CODE_COMMIT) / "own.py")
    consent = f"trust_remote_code=true&revision={COMMIT}&code_revision={CODE_COMMIT}"
    code = (
        "from harness import catalog; from harness.embedder import Item;"
        f"e = catalog.load('{provider}/org/model?{consent}{'&pooling=mean' if provider == 'hf' else ''}'); e.prepare();"
        "print('found', e.embed([Item('a')], 'query').vectors.shape[1], e.model.revision, dict(e.model.options)['code'])"
    )
    env = os.environ | {"HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    said = next(line for line in done.stdout.splitlines() if line.startswith("found"))
    assert said.split() == ["found", "32", COMMIT, CODE_COMMIT]
    assert (tmp_path / "ran").exists()
    assert list((tmp_path / "modules").rglob(f"*{CODE_COMMIT}*"))
