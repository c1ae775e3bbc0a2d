# `make run` and `make test` are all a newcomer needs. Everything is installed into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/cpu.lock
FOCUS := build/focus
FOCUS_PYTHON ?= python3.12
SEEDS ?= 100000
FIRST ?= 1
KILLS ?= 200
SEED ?= 1
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Starting Python without bytecode takes two to four times as long, and some shells switch it off.
unexport PYTHONDONTWRITEBYTECODE
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export HF_HUB_OFFLINE := 1

# $(call timed,what it does,commands)
timed = @echo "==> $(1)"; started=$$SECONDS; $(2); echo "==> done in $$((SECONDS - started)) s: $(1)"

.PHONY: help setup run test lint types unit focus nightly simulate mutants chaos bench bench-quick bench-gpu goodput models lock lock-peers clean

help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

setup: $(VENV)/.installed ## install everything pinned in requirements/cpu.lock into .venv

# Torch first and alone: its own index is only asked for torch, and only if no other has it.
$(VENV)/.installed: $(LOCK) pyproject.toml
	$(call timed,create .venv,test -x $(BIN)/python || $(PYTHON) -m venv $(VENV))
	$(call timed,install torch,torch=$$(grep '^torch==' $(LOCK)); \
		$(BIN)/pip install --quiet --no-deps "$$torch" 2>/dev/null || \
		$(BIN)/pip install --quiet --no-deps "$$torch" --extra-index-url $(TORCH_INDEX))
	$(call timed,install the other pinned packages (a few minutes),\
		$(BIN)/pip install --quiet --no-deps -r $(LOCK))
	$(call timed,install spotmill itself,$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .)
	@touch $@

run: setup ## run the sample job: 384 tickets through a tiny quantized model, on this machine
	$(call timed,spotmill run sample_data/job.yaml,\
		SPOTMILL_INSTANCE_TYPE=laptop SPOTMILL_INSTANCE_LIFECYCLE=on-demand \
		$(BIN)/spotmill run sample_data/job.yaml)
	@echo "completions: out/data/   bills and facts: out/runs/"

test: setup lint types unit ## run every linter, type check and test

lint: setup
	$(call timed,ruff,$(BIN)/ruff format --check . && $(BIN)/ruff check .)
	$(call timed,import-linter,$(BIN)/lint-imports --no-cache)

types: setup
	$(call timed,mypy,$(BIN)/mypy)

# A file at a time, in the order of their names: what takes minutes begins first.
unit: setup focus
	$(call timed,pytest,$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder)

focus: $(FOCUS)/.installed ## install what checks focus.parquet under build/, where a Python 3.12 is

# The validator takes no other Python, and no Arrow as new as ours. Tests that need it say so and are
# skipped where there is none, unless SPOTMILL_FOCUS_REQUIRED is set.
$(FOCUS)/.installed: requirements/focus.lock
	@for one in $(FOCUS_PYTHON) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.12.*/bin/python3.12; do \
		if "$$one" -c 'import sys; sys.exit(sys.version_info[1] != 12)' 2>/dev/null; then found=$$one; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo "==> no Python 3.12, so focus.parquet is not validated; FOCUS_PYTHON=... names one"; \
		exit $${SPOTMILL_FOCUS_REQUIRED:+1}; \
	fi; \
	echo "==> install the FOCUS validator (a minute)"; started=$$SECONDS; \
	rm -rf $(FOCUS); "$$found" -m venv $(FOCUS); \
	$(FOCUS)/bin/pip install --quiet --no-deps -r requirements/focus.lock; touch $@; \
	echo "==> done in $$((SECONDS - started)) s: install the FOCUS validator"

nightly: setup focus ## run every test, also those that make test leaves out to be quick
	$(call timed,pytest,$(BIN)/pytest -m "")

simulate: setup ## try SEEDS simulated nights (100000: about half an hour on two cores), from FIRST on
	$(call timed,simulate $(SEEDS) nights,$(BIN)/python -m tests.simulation \
		--seeds $(FIRST)-$$(($(FIRST) + $(SEEDS) - 1)) --jobs 2)

chaos: setup ## kill real processes some 200 times (20 minutes) and write benchmarks/CHAOS.md
	$(call timed,chaos,$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED) --exact-books --write)

mutants: setup ## plant bugs one by one, show that the simulator finds each, write docs/mutants.md
	$(call timed,mutants,$(BIN)/python -m tests.mutation --record)

bench: setup ## measure against bare vLLM, peers and limits (half an hour), write benchmarks/RESULTS.md
	$(call timed,benchmarks,$(BIN)/python -m benchmarks $(BENCH))

bench-quick: setup ## see in minutes whether every benchmark runs; its figures mean nothing
	$(call timed,benchmarks,$(BIN)/python -m benchmarks --quick $(BENCH))

bench-gpu: ## the same on a CUDA machine, with the Python that has vllm; installs nothing
	$(call timed,benchmarks,$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks --gpu $(BENCH))

goodput: setup ## replay recorded spot fleets (half an hour of one core) and write benchmarks/GOODPUT.md
	$(call timed,replay,$(BIN)/python -m tests.simulation.replay --write)

models: setup ## train the sample models again (15 minutes on two cores)
	$(call timed,train,$(BIN)/python sample_data/train_models.py --out sample_data/models)

lock: ## flatten the dependencies anew into requirements/cpu.lock
	$(call timed,uv,$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv)
	$(call timed,compile,torch_from="--extra-index-url $(TORCH_INDEX)"; \
		if [ -n "$${PIP_FIND_LINKS:-}" ]; then torch_from="--find-links $$PIP_FIND_LINKS"; fi; \
		build/uv/bin/uv pip compile --quiet requirements/cpu.in \
		--override requirements/overrides.txt --python-version 3.11 \
		--index-strategy unsafe-best-match $$torch_from \
		--no-emit-find-links --no-emit-index-url --no-annotate --no-header \
		--no-emit-package spotmill -o $(LOCK))

lock-peers: ## flatten anew what `make bench` measures beside spotmill, benchmarks/peers/peers.lock
	$(call timed,uv,$(PYTHON) -m venv build/uv && build/uv/bin/pip install --quiet uv)
	$(call timed,compile,torch_from="--extra-index-url $(TORCH_INDEX)"; \
		if [ -n "$${PIP_FIND_LINKS:-}" ]; then torch_from="--find-links $$PIP_FIND_LINKS"; fi; \
		build/uv/bin/uv pip compile --quiet benchmarks/peers/peers.in \
		--override benchmarks/peers/overrides.txt --python-version 3.11 \
		--index-strategy unsafe-best-match $$torch_from \
		--no-emit-find-links --no-emit-index-url --no-annotate --no-header \
		-o benchmarks/peers/peers.lock)

clean: ## remove what runs and tools left, but not .venv
	rm -rf out build .pytest_cache .mypy_cache .ruff_cache .hypothesis
