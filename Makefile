# `make demo` and `make test` are all a newcomer needs; both make the virtual environment themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo space test lint clean

demo: $(VENV)/.demo
	$(BIN)/seed-hf demo --out outputs

# The page of spaces/see-and-draw on this machine; SEED_ARTIFACT=FOLDER shows another pipeline.
space: $(VENV)/.space
	$(BIN)/python spaces/see-and-draw/app.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch on its own and first: what comes after then leaves it alone.
$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	touch $@

$(VENV)/.demo: setup.py $(VENV)/.torch
	$(PIP) --editable .
	touch $@

$(VENV)/.space: setup.py $(VENV)/.demo
	$(PIP) --editable ".[demo]"
	touch $@

$(VENV)/.dev: setup.py $(VENV)/.demo
	$(PIP) --editable ".[train,demo,dev]"
	touch $@

clean:
	rm -rf $(VENV) outputs build *.egg-info
