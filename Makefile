# `make demo` and `make test` are all a newcomer needs; all targets make the virtual environment themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo space test pages lint docs clean

demo: $(VENV)/.demo
	$(BIN)/seed-hf demo --out outputs

# The page of spaces/see-and-draw on this machine; SEED_ARTIFACT=FOLDER shows another pipeline.
space: $(VENV)/.space
	$(BIN)/python spaces/see-and-draw/app.py

# Tests of remote code also run in the environment of the oldest libraries that setup.py allows.
test: $(VENV)/.dev $(VENV)/.lowest
	SEED_HF_LOWEST_PYTHON=$(abspath $(VENV)/lowest/bin/python) $(BIN)/python -m pytest

# What pages of the documentation say and tests cannot run: installations, several processes, servers.
pages: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python tests/docs_in_ci.py

lint: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

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

# A venv that sees the packages of the first one behind its own.
$(VENV)/.lowest: constraints-lowest.txt $(VENV)/.dev
	$(PYTHON) -m venv --without-pip $(VENV)/lowest
	$(BIN)/python -c "import site; print(site.getsitepackages()[0])" > \
		"$$($(VENV)/lowest/bin/python -c "import site; print(site.getsitepackages()[0])")/newest.pth"
	$(BIN)/python -m pip --python $(VENV)/lowest/bin/python install --quiet --disable-pip-version-check \
		--no-deps --requirement constraints-lowest.txt
	touch $@

$(VENV)/.docs: setup.py $(VENV)/.demo
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) outputs build *.egg-info
