# The two commands are `make demo` and `make test`; `make` alone lists all.
# PYTHON=python3.12 chooses the interpreter, WORKERS=1 how many tests run side by side, ARGS="-k cli" hands options
# to pytest.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
# windows of tests open on a display of their own, with room for the whole of napari
DISPLAY_OF_ITS_OWN := $(if $(filter Linux,$(shell uname -s)),xvfb-run -a -s "-screen 0 1600x1200x24")

.DEFAULT_GOAL := help
.PHONY: help demo test env lint types docs

help:  ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(RUNTIME)  ## restore a simulated time-lapse; writes to demo/
	@$(BIN)/pristine demo

test: $(DEVELOPMENT)  ## run all tests
	@tools/system_packages.sh display
	@OMP_NUM_THREADS=1 $(DISPLAY_OF_ITS_OWN) $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

env: $(DEVELOPMENT)  ## make the environment for development in .venv

lint: $(DEVELOPMENT)  ## check style
	@$(BIN)/ruff check --quiet .

types: $(DEVELOPMENT)  ## check types
	@$(BIN)/mypy

docs: $(DEVELOPMENT)  ## build the documentation in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(RUNTIME): pyproject.toml constraints.txt
	@tools/make_venv.sh "$(PYTHON)" $(VENV)
	@echo "installing what is needed to run into $(VENV); this takes some minutes the first time"
	@$(PIP) torch
	@$(PIP) --editable .
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	@echo "installing what is needed for development into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $@
