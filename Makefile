# Everything a person types here. `make` alone lists it.
#
#   make run PORT=8600 HEADLESS=true      another port, no browser window
#   make run PYTHON=python3.12            the interpreter that .venv is made with
#   make test ARGS="tests/policy -k surplus"

PYTHON ?= python3
PORT ?= 8501
HEADLESS ?=
ARGS ?=
CREDITS_DATABASE_URL ?= sqlite:///data/ledger.db
export CREDITS_DATABASE_URL

VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
# --dist loadgroup keeps tests that share one server (xdist_group) on one worker, in the order of tests/conftest.py.
# Three workers keep two cores busy: the one with the browser mostly waits.
PYTEST := $(PY) -m pytest -n 3 --dist loadgroup --no-loadscope-reorder --durations 15

# A stamp is named after the contents of its locks, so set-up happens once per lock, not once per checkout.
RUN_STAMP := $(VENV)/.installed-run-$(shell cat requirements.txt | cksum | cut -d' ' -f1)
DEV_STAMP := $(VENV)/.installed-dev-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d' ' -f1)

.PHONY: help run demo bench test test-deep lint format lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

run: $(RUN_STAMP)  ## set up, fill an empty ledger with the demo, and open the dashboard on 127.0.0.1
	$(PY) -m credit_core demo --if-empty
	@$(PY) -m pages.components.warm $(PORT) &
	$(PY) -m streamlit run app.py --server.address 127.0.0.1 --server.port $(PORT) \
	  $(if $(HEADLESS),--server.headless $(HEADLESS))

demo: $(RUN_STAMP)  ## write the demo into the ledger
	$(PY) -m credit_core demo $(ARGS)

bench: $(DEV_STAMP)  ## measure this machine
	$(PY) -m credit_core bench $(ARGS)

test: $(DEV_STAMP)  ## every test but the deep ones, on three workers
	$(PYTEST) -m "not deep" $(ARGS)

test-deep: $(DEV_STAMP)  ## every test, with long property and state-machine runs
	HYPOTHESIS_PROFILE=deep $(PYTEST) --timeout 3600 $(ARGS)

lint: $(DEV_STAMP)  ## ruff, mypy --strict, import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	PYTHONPATH=. $(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-cache

format: $(DEV_STAMP)  ## mend what ruff can mend
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

LOCK := CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m piptools compile --quiet --strip-extras --allow-unsafe \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

lock: $(DEV_STAMP)  ## requirements*.in -> requirements*.txt (ARGS=--upgrade for newer versions)
	$(LOCK) $(ARGS) --output-file requirements.txt requirements.in
	$(LOCK) $(ARGS) --output-file requirements-dev.txt requirements-dev.in

clean:  ## caches and test artefacts; never the ledger, never .venv
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage test-results bench-results
	find app.py credit_core pages tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(RUN_STAMP):
	@[ -x $(VENV)/bin/pip ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Titrate needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@[ -x $(VENV)/bin/pip ] || { echo "Making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing requirements.txt (once per lock)"
	@$(PIP_INSTALL) -r requirements.txt
	@rm -f $(VENV)/.installed-*
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@echo "Installing requirements-dev.txt (once per lock)"
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@
