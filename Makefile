# make demo: draw galaxies, train, evaluate, predict.   make test: what CI runs.   make test-all: the slow tests too.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
DEMO := demo
CUDA := $(shell git ls-files '*.cu' '*.cuh' '*.hpp')
# cuda13 or cuda12, as the NVIDIA driver wants it; nothing without one.
EXTRA := $$($(BIN)/python -c 'from gzkern.runtime.gpu import extra; print(extra() or "")')

.PHONY: demo test test-all lint format bench clean

demo: .venv/installed
	rm -rf $(DEMO)
	$(BIN)/gzkern demo-data $(DEMO)/galaxies --count 600 --seed 1
	$(BIN)/gzkern pack $(DEMO)/galaxies/images_training_rev1 \
	  --labels $(DEMO)/galaxies/training_solutions_rev1.csv --out $(DEMO)/pack
	$(BIN)/gzkern train --data $(DEMO)/pack --out $(DEMO)/run --config laptop --set train.examples=32000
	$(BIN)/gzkern evaluate $(DEMO)/run --data $(DEMO)/pack
	$(BIN)/gzkern predict $(DEMO)/run $(DEMO)/galaxies/images_training_rev1 --out $(DEMO)/answers.csv
	@echo
	@echo "$(DEMO)/galaxies     600 synthetic galaxies and the answers of simulated volunteers"
	@echo "$(DEMO)/pack         the same, decoded"
	@echo "$(DEMO)/run          the trained network: weights.safetensors, config.toml, metrics.jsonl"
	@echo "$(DEMO)/answers.csv  37 probabilities a galaxy"
	@echo
	@echo "Try next, on your own images:  $(BIN)/gzkern predict $(DEMO)/run YOUR_FOLDER --out answers.csv"

test: .venv/installed-dev lint
	$(BIN)/pytest -m "not slow"

test-all: .venv/installed-dev lint
	$(BIN)/pytest --record=benchmarks/results/kernels_emulated.json
	$(BIN)/python -m benchmarks.tables kernel

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CUDA)

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CUDA)

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks.train_step --device cpu --baseline torch --json benchmarks/results/train_step_cpu.json

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gzkern needs Python 3.11 or newer; call: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "python3 -m venv failed; on Debian: apt install python3-venv"; exit 2; }
	touch $@

.venv/installed: .venv/created pyproject.toml
	$(PIP) --editable .
	extra=$(EXTRA) && if [ "$$extra" ]; then $(PIP) --editable ".[$$extra]"; fi
	touch $@

.venv/installed-dev: .venv/installed
	extra=$(EXTRA) && $(PIP) --editable ".[dev,$${extra:-nvrtc}]"
	touch $@

.venv/installed-bench: .venv/installed-dev
	$(PIP) --editable '.[bench]'
	touch $@

clean:
	rm -rf .venv $(DEMO)
