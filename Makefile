# Every target makes the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
LOWEST := $(VENV)/lowest/$(SCRIPTS)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo space test test-lowest soak pages lint docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo ## draw twelve prompts, look at eight images: outputs/see_and_draw.png
	$(BIN)/seed-hf demo --out outputs

space: $(VENV)/.space ## serve the page of spaces/see-and-draw; SEED_ARTIFACT=FOLDER shows another pipeline
	$(BIN)/python spaces/see-and-draw/app.py

# Tests of remote code also run in the environment of the oldest libraries that setup.py allows.
test: $(VENV)/.dev $(VENV)/.lowest ## run the test suite, no network, no GPU; TESTS="FILE ..." runs a part
	SEED_HF_LOWEST_PYTHON=$(abspath $(LOWEST)/python) $(BIN)/python -m pytest $(TESTS)

# The last -m counts: it takes the place of the one in pyproject.toml.
soak: $(VENV)/.dev ## run the exhaustive sweeps that `make test` takes a sample of: hours; TESTS="FILE ..." runs a part
	$(BIN)/python -m pytest -m soak $(TESTS)

# Not the runner of `make pages`: that environment has no console scripts.
test-lowest: $(VENV)/.lowest ## run the test suite with the oldest libraries: constraints-lowest.txt
	$(LOWEST)/python -m pytest --ignore=tests/docs/test_docs_in_ci.py $(TESTS)

pages: $(VENV)/.dev ## run the code of the documentation that tests cannot: servers, several processes, installations
	HF_HUB_OFFLINE=1 $(BIN)/python tests/support/docs_in_ci.py

# mypy reads the package as it is installed: with modeling/ and the other top-level folders inside.
lint: $(VENV)/.dev ## check style, spelling and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/typos
	rm -rf $(VENV)/types && mkdir -p $(VENV)/types/seed_hf
	ln -s $(abspath seed_hf)/* $(abspath modeling pipelines model_cards) $(VENV)/types/seed_hf
	cd $(VENV)/types && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml) --cache-dir ../mypy_cache --package seed_hf

docs: $(VENV)/.docs ## build the website: outputs/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV)

# torch on its own and first: what comes after then leaves it alone.
$(VENV)/.torch: constraints.txt | $(VENV)/pyvenv.cfg
	$(PIP) torch
	touch $@

$(VENV)/.demo: setup.py $(VENV)/.torch
	$(PIP) --editable .
	touch $@

$(VENV)/.space: setup.py $(VENV)/.demo
	$(PIP) --editable ".[demo]"
	touch $@

$(VENV)/.dev: setup.py $(VENV)/.demo
	$(PIP) --editable ".[train,demo,serve,dev]"
	touch $@

# A venv that sees the packages of the first one behind its own, with this one: its folder alone would not do, because
# what is installed as editable lies there in files that only `addsitedir` reads.
$(VENV)/.lowest: constraints-lowest.txt $(VENV)/.dev
	$(PYTHON) -m venv --without-pip $(VENV)/lowest
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" > \
		"$$($(LOWEST)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/newest.pth"
	$(BIN)/python -m pip --python $(LOWEST)/python install --quiet --disable-pip-version-check \
		--no-deps --requirement constraints-lowest.txt
	touch $@

$(VENV)/.docs: setup.py $(VENV)/.demo
	$(PIP) --editable ".[docs]"
	touch $@

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) outputs build *.egg-info
