# Every target does its own set-up: only Python 3.10 or later, pip and make are needed.
PYTHON ?= python3
PORT ?= 8000
RUNS ?= 50000
VENV := .venv
# Nothing here compiles a plugin, starts a process or waits for a server.
QUICK := tests/test_imports.py tests/test_house.py tests/papers/test_sources.py tests/test_logs.py tests/host/hostcalls tests/host/vm tests/host/streams \
	tests/host/codecs tests/host/wasi tests/host/test_limits.py tests/host/test_limits_of_calls.py tests/host/test_limits_of_logs.py tests/engines/test_binary.py tests/engines/test_null.py \
	tests/asgi/exchange tests/asgi/messages/test_translate.py tests/asgi/messages/test_translate_responses.py tests/asgi/test_properties.py tests/services/stores/test_memory.py \
	tests/settings/test_sources.py tests/settings/test_spellings.py tests/settings/test_limits.py
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick streams conformance conformance-tables papers bench bench-quick test-libwasmer fuzz soak sanitize chaos increments check format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile

demo: $(VENV)/.samples ## serve the FastAPI sample on 127.0.0.1 (PORT=8000)
	@echo
	@echo "Try, in another terminal:"
	@echo "  curl -i 127.0.0.1:$(PORT)/         # a plugin answers: hello world"
	@echo "  curl -i 127.0.0.1:$(PORT)/app      # the app answers"
	@echo "  curl -i 127.0.0.1:$(PORT)/teapot   # the plugin, with this route's conf"
	@echo
	@exec $(BIN)/python -m uvicorn sample_apps.fastapi_app.main:app --host 127.0.0.1 --port $(PORT)

test: $(VENV)/.check ## run the tests, beside that under CPython 3.10 with wasmer and newer Pythons where they are found or can be had
	.ci/tests

test-quick: $(VENV)/.check ## the rules of the house and the host's core in twenty seconds: what a change breaks first
	$(BIN)/python -m pytest -q -x --hypothesis-profile=quick $(QUICK)

streams: $(VENV)/.check ## play random streams, with plugins and bare (RUNS=50000)
	ASGI_WASM_STREAMS=$(RUNS) $(BIN)/python -m pytest tests/streams

conformance: $(VENV)/.conformance ## run the same plugins in the real Envoy and here, and compare
	$(BIN)/python -m pytest tests/conformance

conformance-tables: $(VENV)/.conformance ## write the tables of the papers that such a run makes
	ASGI_WASM_WRITE_TABLES=1 $(BIN)/python -m pytest tests/conformance tests/servers

papers: $(VENV)/.check ## write what the papers take from the code: settings, their JSON Schema, help of the command
	ASGI_WASM_WRITE_TABLES=1 $(BIN)/python -m pytest -q tests/papers tests/cli/test_command.py

bench: $(VENV)/.bench ## what a plugin costs beside native middlewares, an external runner and Envoy: a table, charts
	$(BIN)/python -m tests.bench

bench-quick: $(VENV)/.check ## the same in under a minute, without Envoy
	$(BIN)/python -m tests.bench --quick

test-libwasmer: $(VENV)/.check ## build libwasmer (cargo, ten minutes the first time) and run the engines' tests over it
	.ci/libwasmer

fuzz: $(VENV)/.check ## other hostile modules, hostcalls and clients each time, for five minutes
	$(BIN)/python -m tests.fuzz --seconds 300

soak: $(VENV)/.check ## each limit gone over 20,000 times, then a million requests with reloads: nothing may be kept (an hour)
	$(BIN)/python -m tests.soak.limits
	$(BIN)/python -m tests.soak

sanitize: $(VENV)/.check ## the accelerator's tests over a build that finds faults of memory (needs gcc)
	.ci/sanitize

chaos: $(VENV)/.check ## kill, freeze and fill for at most ten minutes: a table of what was lost, doubled and held
	$(BIN)/python -m tests.chaos

increments: $(VENV)/.check ## 100,000 counts by compare-and-swap over LMDB and over Redis, while workers are killed
	$(BIN)/python -m tests.chaos.increments

check: $(VENV)/.check ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_imports.py

format: $(VENV)/.check ## let ruff rewrite what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove what the other targets made
	rm -rf .venv .venv310 .venv-python* .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { echo "This Python cannot make virtual environments: install its venv package (Debian: python3-venv), or say 'make PYTHON=...'." >&2; exit 1; }

$(VENV)/.samples: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[samples]'
	@touch $@

$(VENV)/.check: pyproject.toml $(wildcard asgi_wasm/accelerator/*.[ch]) asgi_wasm/host/resident/layout.h | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[check,wasmer]'
	@touch $@ $(VENV)/.samples

$(VENV)/.conformance: $(VENV)/.check
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[conformance]'
	@touch $@

$(VENV)/.bench: $(VENV)/.conformance
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@
