"""The catalog held against mteb's registry: every difference is written down with its reason."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from harness import catalog

MTEB_NAMES = {
    "openai": ("openai/{}",),
    "voyage": ("mongodb/{}",),
    "cohere": ("Cohere/Cohere-{}", "cohere/{}"),
    "gemini": ("google/{}",),
    "mistral": ("mistralai/{}",),
    "jina": ("jinaai/{}",),
    "nomic": ("nomic-ai/{}",),
    "packaged": ("sentence-transformers/{}",),
    "st": ("{}",),
    "hf": ("{}",),
}
OTHER_NAMES = {
    "open-clip/ViT-B-32:laion2b_s34b_b79k": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "open-clip/ViT-L-14:laion2b_s32b_b82k": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "open-clip/ViT-H-14:laion2b_s32b_b79k": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "open-clip/EVA02-B-16:merged2b_s8b_b131k": "QuanSun/EVA02-CLIP-B-16",
    "open-clip/EVA02-L-14:merged2b_s4b_b131k": "QuanSun/EVA02-CLIP-L-14",
}
"""The same weights under names that no pattern leads to; OpenCLIP's by its pretrained.py."""
_ASKED = "mteb takes what Voyage gives unasked; the API gives 2048 when asked, and its prefixes are the smaller ones"
_SLIP = "mteb is wrong: embed-multilingual-v3.0 gives 1024, as its other entry says, cohere/embed-multilingual-v3.0"
_POSITIONS = "514 positions, of which XLM-RoBERTa never uses the first two"
_CODE = "mteb has the prefix of nomic-embed-text; this is the one of the model card"
_ROUNDED = "mteb rounds; here counted in open_clip's architecture"
_TEXT_TOWER = "texts are read by nomic-embed-text-v1.5, of which mteb says 8192"
_L12 = "its sentence_bert_config.json says 128"
_JINA = "mteb adds 768; Jina's model page lists 32, 64, 128, 256, 512, 1024"
KNOWN_DIFFERENCES: dict[tuple[str, str], dict[str, tuple[Any, Any, str]]] = {
    ("voyage/voyage-4-large", "mongodb/voyage-4-large"): {"dim": (2048, 1024, _ASKED)},
    ("voyage/voyage-4", "mongodb/voyage-4"): {"dim": (2048, 1024, _ASKED)},
    ("voyage/voyage-4-lite", "mongodb/voyage-4-lite"): {"dim": (2048, 1024, _ASKED)},
    ("voyage/voyage-code-3", "mongodb/voyage-code-3"): {"dim": (2048, 1024, _ASKED)},
    ("voyage/voyage-3-large", "mongodb/voyage-3-large"): {"dim": (2048, 1024, _ASKED)},
    ("voyage/voyage-3.5", "mongodb/voyage-3.5"): {"dim": (2048, 1024, _ASKED)},
    ("cohere/embed-multilingual-v3.0", "Cohere/Cohere-embed-multilingual-v3.0"): {"dim": (1024, 512, _SLIP)},
    ("jina/jina-embeddings-v5-text-small", "jinaai/jina-embeddings-v5-text-small"): {
        "mrl_dims": ([512, 256, 128, 64, 32], [768, 512, 256, 128, 64, 32], _JINA)
    },
    ("st/jinaai/jina-embeddings-v5-text-small", "jinaai/jina-embeddings-v5-text-small"): {
        "mrl_dims": ([512, 256, 128, 64, 32], [768, 512, 256, 128, 64, 32], _JINA)
    },
    ("st/intfloat/multilingual-e5-base", "intfloat/multilingual-e5-base"): {"max_tokens": (512, 514, _POSITIONS)},
    ("st/intfloat/multilingual-e5-large", "intfloat/multilingual-e5-large"): {"max_tokens": (512, 514, _POSITIONS)},
    ("st/intfloat/multilingual-e5-large-instruct", "intfloat/multilingual-e5-large-instruct"): {"max_tokens": (512, 514, _POSITIONS)},
    ("st/nomic-ai/nomic-embed-code", "nomic-ai/nomic-embed-code"): {
        "query_prompt": ("Represent this query for searching relevant code: ", "search_query: ", _CODE)
    },
    ("open-clip/EVA02-B-16:merged2b_s8b_b131k", "QuanSun/EVA02-CLIP-B-16"): {"parameters": (149_691_137, 149_000_000, _ROUNDED)},
    ("open-clip/EVA02-L-14:merged2b_s4b_b131k", "QuanSun/EVA02-CLIP-L-14"): {"parameters": (427_755_457, 428_000_000, _ROUNDED)},
    ("hf/nomic-ai/nomic-embed-vision-v1.5", "nomic-ai/nomic-embed-vision-v1.5"): {"max_tokens": (8192, 2048, _TEXT_TOWER)},
    ("st/sentence-transformers/all-MiniLM-L12-v2", "sentence-transformers/all-MiniLM-L12-v2"): {"max_tokens": (128, 256, _L12)},
}
"""Our name and mteb's -> what differs -> (here, in mteb, why). A line that no longer differs has to go."""
UNKNOWN_TO_MTEB = {
    "azure/text-embedding-3-small",
    "azure/text-embedding-3-large",
    "azure/text-embedding-ada-002",
    "wordllama/256",
    "voyage/voyage-code-4",
    "voyage/voyage-context-4",
    "voyage/voyage-context-3",
    "voyage/voyage-multimodal-3.5",
    "voyage/voyage-3.5-lite",
    "cohere/embed-v5.0-pro",
    "cohere/embed-v5.0-fast",
    "mistral/mistral-embed",
    "mistral/codestral-embed",
    "st/Alibaba-NLP/gte-large-en-v1.5",
    "st/jinaai/jina-code-embeddings-0.5b",
    "st/jinaai/jina-code-embeddings-1.5b",
    "st/jinaai/jina-embeddings-v2-base-code",
    "hf/microsoft/unixcoder-base",
    "hf/Salesforce/codet5p-110m-embedding",
    "hf/google-bert/bert-base-uncased",
    "hf/FacebookAI/roberta-base",
    "hf/distilbert/distilbert-base-uncased",
    "hf/albert/albert-base-v2",
    "hf/microsoft/deberta-v3-base",
    "hf/google/electra-base-discriminator",
    "st/sentence-transformers/clip-ViT-B-32",
    "st/sentence-transformers/clip-ViT-L-14",
    "open-clip/coca_ViT-B-32:laion2b_s13b_b90k",
    "open-clip/coca_ViT-L-14:laion2b_s13b_b90k",
    "hf/Salesforce/blip2-itm-vit-g",
}


@pytest.fixture(scope="module")
def registry() -> Iterator[dict[str, Any]]:
    """mteb's models by name; its import takes seconds and warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mteb.models.model_implementations import MODEL_REGISTRY

        yield dict(MODEL_REGISTRY)


def pairs(registry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Our names with mteb's for the same model."""
    for name in catalog.entries():
        provider, _, model = name.partition("/")
        if OTHER_NAMES.get(name) in registry:
            yield name, OTHER_NAMES[name]
        for pattern in MTEB_NAMES.get(provider, ()):
            if pattern.format(model) in registry:
                yield name, pattern.format(model)


def compared(name: str, meta: Any) -> dict[str, tuple[Any, Any]]:
    """What both sides say of a model: here, in mteb."""
    known = catalog.entries()[name]
    dims = meta.embed_dim if isinstance(meta.embed_dim, list) else [meta.embed_dim]
    both: dict[str, tuple[Any, Any]] = {
        "dim": (known.dim, max(dims) if None not in dims else None),
        "max_tokens": (known.max_tokens, meta.max_tokens if meta.max_tokens != float("inf") else None),
        "revision": (known.revision, meta.revision),
        "parameters": (known.parameters, meta.n_parameters),
        "mrl_dims": (list(known.mrl_dims) or None, sorted(dims, reverse=True)[1:] or None),
    }
    asked = (meta.loader_kwargs or {}).get("model_prompts") or {}
    if known.licence != "API terms" and not name.startswith("st/jinaai/"):  # Jina's are names of tasks there
        both |= {f"{role}_prompt": (getattr(known, f"{role}_prompt"), asked.get(role)) for role in ("query", "document")}
    if meta.open_weights and known.licence != "API terms":
        both["licence"] = (known.licence.lower(), meta.license)
    return {key: values for key, values in both.items() if None not in values}


def test_the_catalog_agrees_with_mteb_but_for_what_is_explained(registry):
    differing = {}
    for name, theirs in pairs(registry):
        differences = {key: (ours, other) for key, (ours, other) in compared(name, registry[theirs]).items() if ours != other}
        if differences:
            differing[name, theirs] = differences
    explained = {pair: {key: values[:2] for key, values in lines.items()} for pair, lines in KNOWN_DIFFERENCES.items()}
    assert differing == explained


def test_mteb_knows_most_of_the_catalog(registry):
    """So that the comparison cannot pass on nothing: a renamed registry entry would drop out of it in silence."""
    found = list(pairs(registry))
    facts = [key for name, theirs in found for key in compared(name, registry[theirs])]
    assert {name for name, _ in found} >= set(catalog.entries()) - UNKNOWN_TO_MTEB
    assert facts.count("dim") >= 70
    assert facts.count("max_tokens") >= 60
    assert facts.count("revision") >= 45
    assert facts.count("parameters") >= 45
    assert facts.count("mrl_dims") >= 3
    assert facts.count("query_prompt") >= 10
    assert facts.count("licence") >= 45


def test_dimensions_that_mteb_asks_an_api_for_are_among_ours(registry):
    for name, theirs in pairs(registry):
        known = catalog.entries()[name]
        for other in registry:
            if other.startswith(f"{theirs} (embed_dim="):
                assert int(other.partition("embed_dim=")[2].strip(")").partition(",")[0]) in (known.dim, *known.mrl_dims)


@pytest.mark.parametrize("name", [name for name in catalog.entries() if name.startswith(("st/", "hf/", "open-clip/"))])
def test_a_local_entry_says_what_a_chooser_needs(name):
    known = catalog.entries()[name]
    assert known.dim
    assert known.tasks
    assert known.parameters
    assert known.revision is not None or name.startswith(("st/jinaai/jina-code-embeddings", "open-clip/"))
    assert all(len(commit) == 40 for commit in (known.revision, known.code_revision) if commit)
    assert known.pooling is not None or not name.startswith("hf/")
    assert ("image" in known.tasks) == ("image" in known.modality)
    assert not known.trust_remote_code, "consent is the user's"
    assert ("long" in known.tasks) == (known.max_tokens is not None and known.max_tokens >= 8000)
    assert (known.instruction is not None) == ("{instruction}" in f"{known.query_prompt}{known.document_prompt}")
    known.prompts()
