# make quickstart: install, run a small study, write its report.  make test: the quick suite.
# make test-slow: the slow tests.  make test-peers: against transformers, and for TPU topologies.
# make test-rest: both.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2  # processes that run tests; each sees 8 fake devices
INSTALLED = $(VENV)/.installed
INSTALL = $(VENV)/bin/pip install --quiet --disable-pip-version-check
PYTEST = $(VENV)/bin/python -m pytest -q -n $(WORKERS) --dist worksteal

quickstart: $(INSTALLED)
	$(VENV)/bin/python run.py --config=experiments/quickstart.py --workdir=results/quickstart

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PYTEST) -m "not slow and not peers"

test-slow: $(INSTALLED)
	$(PYTEST) -m "slow and not peers"

test-peers: $(VENV)/.peers
	$(PYTEST) -m peers

test-rest: $(VENV)/.peers
	$(PYTEST) -m "slow or peers"

$(VENV)/.peers: requirements-peers.txt $(INSTALLED)
	$(INSTALL) --no-compile -r requirements-peers.txt
	touch $@

install: $(INSTALLED)

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Postscale needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	touch $@

.PHONY: quickstart test test-slow test-peers test-rest install
