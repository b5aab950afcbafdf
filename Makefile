# The commands of the project. Each makes its own virtual environment from requirements.lock if there is none.
PYTHON ?= python3
VENV ?= .venv
PROFILE ?=
COHORT ?=
DATA ?=
ONLY ?=
# Extra pip options for torch alone, e.g. an index of CPU or CUDA builds (README, "Which torch").
TORCH_PIP ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# STROKELIB_END_WITH: if make itself is killed, the run ends with it (the shell between them would not).
STROKELIB := STROKELIB_END_WITH=$$PPID $(BIN)/strokelib
CHOICE := $(if $(PROFILE),--profile '$(PROFILE)') $(if $(COHORT),--cohort '$(COHORT)') $(if $(DATA),--data '$(DATA)')
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help reproduce test plan lab notebooks book clean distclean lint bench
.DEFAULT_GOAL := help

help:
	@echo "make reproduce   run every notebook that is out of date (PROFILE=smoke|demo|paper COHORT= DATA= ONLY=)"
	@echo "make test        format, lint, import layers, unit tests, every notebook in the smoke profile"
	@echo "make plan        what make reproduce would run, with estimated minutes"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make notebooks   write the outputs of the executed copies into notebooks/"
	@echo "make book        the notebooks, pages and API reference as HTML, into runs/book/html (nothing is executed)"
	@echo "make bench       measure against the peers, into benchmarks/results.md (about 15 minutes)"
	@echo "make clean       remove runs/ and caches (make distclean: $(VENV) too)"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python: found $$($(PYTHON) --version 2>&1); wanted 3.11 or newer. Next step: make ... PYTHON=python3.11" >&2; exit 1; }
	@echo "installing into $(VENV) from requirements.lock (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(if $(TORCH_PIP),$(PIP) install $(TORCH_PIP) $$(grep '^torch==' requirements.lock))
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

reproduce: $(READY)
	@$(STROKELIB) reproduce $(CHOICE) $(if $(ONLY),--only '$(ONLY)')

plan: $(READY)
	@$(STROKELIB) plan $(CHOICE) $(if $(ONLY),--only '$(ONLY)')

lab: $(READY)
	@JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: $(READY)
	@$(STROKELIB) refresh-notebooks

book: $(READY)
	@$(BIN)/python docs/book/build.py

lint: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache

test: lint
	@$(BIN)/python -B -m pytest -n 2 --dist loadfile
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT INT TERM && \
	  export STROKELIB_RUNS=$$runs && $(STROKELIB) reproduce --profile smoke --engine nbval && \
	  $(BIN)/python -B tests/data/archives.py "$$runs/archive" && \
	  $(STROKELIB) reproduce --profile smoke --engine nbval --cohort aisd --data "$$runs/archive"
	@echo "make test: format, lint, import layers, unit tests and notebooks: all passed"

bench: $(READY)
	@$(BIN)/python benchmarks/results.py

clean:
	rm -rf runs build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find strokelib tests benchmarks notebooks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) strokelib.egg-info
