# The two commands a newcomer needs are `make demo` and `make test`; `make` lists the rest.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export DAGSTER_HOME ?= $(CURDIR)/.dagster
DYFF_STORAGE_ROOT ?= dyff-storage
export DYFF_STORAGE_ROOT
PAGES_PORT ?= 8787
UI_PORT ?= 3000
# Neither Dagster's usage statistics nor git's questions have a place in a build.
export DAGSTER_DISABLE_TELEMETRY ?= yes

.DEFAULT_GOAL := help
.PHONY: help install demo demo-llm ui test test-kubernetes test-long bench pictures lint format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed ## make the virtual environment

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or later is needed: call 'make PYTHON=/path/to/python3'"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ui,example,kubernetes,postgres,text,bundle,s3,gcs,azure,inspect]' --group lint --group test
	touch $@

$(DAGSTER_HOME)/dagster.yaml: dagster.yaml
	mkdir -p $(DAGSTER_HOME)
	cp dagster.yaml $@

demo: $(VENV)/.installed $(DAGSTER_HOME)/dagster.yaml ## run the example audit and show its results
	@echo "Materializing every asset of examples/breast_cancer into $(DYFF_STORAGE_ROOT) ..."
	@PYTHONWARNINGS='ignore:Function `asset_materialize_command`,ignore:Parameter `include_sources`' \
	$(BIN)/dagster asset materialize --select '*' -f definitions.py -c examples/run-config.yaml
	@$(BIN)/dyff-dagster status
	@echo "Open one with '$(VENV)/bin/dyff-dagster open wdbc-audit', or 'make ui' for Dagster's own."

demo-llm: $(VENV)/.installed $(DAGSTER_HOME)/dagster.yaml ## the same with a tiny language model (installs PyTorch)
	@$(BIN)/python -c 'import torch, transformers, fastapi, uvicorn' 2>/dev/null \
	|| $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[huggingface]'
	@$(BIN)/python examples/tiny_llm/make_model.py
	@echo "Materializing every asset of examples/tiny_llm into $(DYFF_STORAGE_ROOT) ..."
	@PYTHONWARNINGS='ignore:Function `asset_materialize_command`,ignore:Parameter `include_sources`' \
	DYFF_CATALOG=examples/tiny_llm \
	$(BIN)/dagster asset materialize --select '*' -f definitions.py -c examples/run-config.yaml
	@DYFF_CATALOG=examples/tiny_llm $(BIN)/dyff-dagster status

ui: $(VENV)/.installed $(DAGSTER_HOME)/dagster.yaml ## open Dagster's UI on it, and serve the pages beside it
	@trap 'kill 0' EXIT; \
	$(BIN)/dyff-dagster serve-pages --port $(PAGES_PORT) & \
	DYFF_PAGES_URL=http://127.0.0.1:$(PAGES_PORT) DYFF_WEBSERVER_URL=http://127.0.0.1:$(UI_PORT) $(BIN)/dagster dev -f definitions.py -h 127.0.0.1 -p $(UI_PORT)

test: $(VENV)/.installed ## run the tests, two files at once (TESTS="-n 0 -k bundle": some of them, one after the other)
	$(BIN)/python -m pytest --ignore=tests/kubernetes -n 2 --dist loadfile $(TESTS)

# They mostly wait, so that several run at once; those that disturb others come last. Status 5: none was chosen.
test-kubernetes: $(VENV)/.installed ## run those that need a cluster, on that of KUBECONFIG (TESTS="-k quota": some of them)
	@failed=0; \
	$(BIN)/python -m pytest tests/kubernetes -m "not alone" -n 4 --dist loadfile $(TESTS) || [ $$? = 5 ] || failed=1; \
	$(BIN)/python -m pytest tests/kubernetes -m alone -n 0 $(TESTS) || [ $$? = 5 ] || failed=1; exit $$failed

test-long: $(VENV)/.installed ## the same, with what takes an hour
	DYFF_TEST_LONG=1 $(MAKE) test-kubernetes TESTS="--timeout=7200 $(TESTS)"

bench: $(VENV)/.installed ## measure what docs/benchmarks.md claims (BENCH=--write puts the figures there)
	@failed=0; for file in benchmarks/*.py; do name=$$(basename $$file .py); \
	case $$name in pairing|__init__) continue;; esac; \
	$(BIN)/python -m benchmarks.$$name $(BENCH) || failed=1; done; exit $$failed

pictures: $(VENV)/.installed ## take the README's pictures anew (needs chromium)
	$(BIN)/python docs/images/make.py

lint: $(VENV)/.installed ## check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what running left behind (not your storage root)
	rm -rf .dagster .mypy_cache .ruff_cache .pytest_cache build dist
