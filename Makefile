# make demo | make test do all their own set-up in .venv; everything else is for contributors.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
EXTRAS ?= dev
PIP = $(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test dev lint type format wheel clean

help:
	@echo "make demo    set up, then run the whole flow on the shipped model and cities (about three minutes)"
	@echo "make test    set up, then run the test suite"
	@echo "make dev | lint | type | format | wheel | clean"

# norse, sinabs and neurobench ask for packages that are not needed here, so they go in without them.
$(VENV)/.core: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (about 1.5 GB; a minute or two, once)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable . snntorch==1.0.0 nirtorch==2.6 pbr
	$(PIP) --no-deps norse==1.1.0 sinabs==3.1.3
	@touch $@

$(VENV)/.extras-$(EXTRAS): $(VENV)/.core
	$(PIP) --editable ".[$(EXTRAS)]"
	$(PIP) --no-deps neurobench==2.3.0
	@touch $@

demo: $(VENV)/.core
	$(RUN)/spikeport demo --out spikeport-demo

dev: $(VENV)/.extras-$(EXTRAS)

test: dev
	$(RUN)/python -m pytest

lint: dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/lint-imports

type: dev
	$(RUN)/mypy

format: dev
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

wheel: dev
	$(RUN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist spikeport-demo
