# Everything here makes .venv first, from the pinned versions in constraints.txt.
# CPU-only torch, where disk matters:  make install TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet
STAMP = .venv/.installed

.PHONY: install models demo test test-e2e test-all lint format bench test-compose clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "fedpsyau needs Python 3.11: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "installing into .venv (some minutes the first time)"
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@$(if $(TORCH_INDEX),$(PIP) install --index-url $(TORCH_INDEX) torch==2.13.0,true)
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

# The face landmark model of MediaPipe, into the user's cache; nothing is done if it is there.
models: $(STAMP)
	@.venv/bin/fedpsyau data fetch-models

demo: $(STAMP)
	.venv/bin/fedpsyau demo

# One test process a core; each keeps to one thread, so that they do not fight over the cores.
test: models
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n auto --dist loadfile

test-e2e: models
	.venv/bin/python -m pytest -m 'e2e and not slow'

test-all: models
	.venv/bin/python -m pytest -m ''

lint: $(STAMP)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: $(STAMP)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: models
	.venv/bin/python -m benchmarks

test-compose:
	@echo "make test-compose: the containers are not built yet in this version" >&2; exit 1

clean:
	rm -rf .venv build dist demo .mypy_cache .ruff_cache .pytest_cache
