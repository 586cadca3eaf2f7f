# Set-up and daily commands. Only Python 3.11+ and make are needed; everything goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
# the files that have such tests: others import what a bare machine has not
GPU_TESTS := tests/test_gpu.py tests/test_memory.py

.PHONY: search test test-all test-gpu gpu-bundle docs bench check format clean

search: .venv/installed  ## search the best hierarchy for handwritten digits
	$(BIN)/dsaccel search

test: .venv/tested  ## the fast tests
	$(BIN)/python -m pytest -n logical --dist loadfile

test-all: .venv/tested  ## these and the long ones: whole studies, other processes, a browser
	$(BIN)/python -m pytest -n logical --dist loadfile -m "not slow and not gpu"

test-gpu: .venv/tested  ## tests that need CUDA; skipped without it
	$(BIN)/python -m pytest -m gpu $(GPU_TESTS)

gpu-bundle: .venv/tested  ## all that a bare GPU machine needs, in gpu-bundle.tar; docs/gpu.md
	$(BIN)/python benchmarks/gpu_bundle.py

docs: .venv/documented  ## the site, into build/site
	$(BIN)/python -m mkdocs build --strict

bench: .venv/installed  ## all benchmarks, quickly; figures into benchmarks/results/
	$(BIN)/python benchmarks/startup.py --rounds 20
	$(BIN)/python benchmarks/loader.py --rounds 5
	$(BIN)/python benchmarks/step.py --rounds 5 --warm-up 1 --out step-quick
	$(BIN)/python benchmarks/cohort.py --width 0.25 --batches 1 --rounds 3 --out cohort-quick
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/memory.py --width 0.25 --out benchmarks/results/memory-quick.json
	$(BIN)/python benchmarks/overhead.py --rungs 20
	$(BIN)/python benchmarks/gpu.py

check: .venv/checked  ## linters: style, types, imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/checked
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "pip>=25.1"

.venv/installed: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/python -m pip install --quiet --group test
	touch $@

.venv/documented: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

.venv/checked: .venv/tested
	$(BIN)/python -m pip install --quiet --group check
	touch $@
