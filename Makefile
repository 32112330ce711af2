# Everything here makes .venv first, from the pinned versions in constraints.txt.
# CPU-only torch, where disk matters:  make install TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet
STAMP = .venv/.installed

.PHONY: install models demo test test-e2e test-all lint format bench wheelhouse test-compose clean

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

# Federations spend much of their time waiting for one another, so two go side by side.
test-e2e: models
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile -m 'e2e and not slow' --durations 10

test-all: models
	.venv/bin/python -m pytest -m 'not compose'

lint: $(STAMP)
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format: $(STAMP)
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: models
	.venv/bin/python -m benchmarks

# Wheels of all that the image needs; a build that finds them needs no network. They are chosen by
# the settings of this machine's pip, and, for torch, by TORCH_INDEX.
WHEELS = deploy/wheelhouse
wheelhouse: $(WHEELS)/.complete

$(WHEELS)/.complete: pyproject.toml constraints.txt | $(STAMP)
	@echo "filling $(WHEELS)"
	@rm -f $(WHEELS)/*.whl
	@$(if $(TORCH_INDEX),$(PIP) download --index-url $(TORCH_INDEX) --dest $(WHEELS) torch==2.13.0,true)
	@$(PIP) download --only-binary :all: --find-links $(WHEELS) --constraint constraints.txt \
	  --dest $(WHEELS) . 'hatchling>=1.27'
	@rm -f $(WHEELS)/fedpsyau-*
	@touch $@

# The image and docker-compose.yml for real. Needs an engine; BASE_IMAGE and COMPOSE name others.
test-compose: wheelhouse
	@docker info >/dev/null 2>&1 || { echo "make test-compose needs a Docker engine that this user" \
	  "may use, and there is none: install Docker and start it ('docker info' must work)" >&2; exit 1; }
	.venv/bin/python -m pytest -m compose tests/compose

clean:
	rm -rf $(WHEELS)/*.whl $(WHEELS)/.complete
	rm -rf .venv build dist demo .mypy_cache .ruff_cache .pytest_cache
