# Two commands: `make first-run`, then `make test`. Each makes what it needs.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

.PHONY: first-run test peers clean

first-run: $(VENV)/installed
	$(VENV)/bin/evalsuite run --task wipo --method instruction
	@echo 'Then, to have evalsuite on your path: . $(VENV)/bin/activate'

test: $(VENV)/installed-test
	PATH="$(abspath $(VENV))/bin:$$PATH" tests/run

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(VENV)/installed $@

# The libraries that benchmarks/ compares with, in an environment of their own.
peers: benchmarks/.peers/installed

benchmarks/.peers/installed: benchmarks/peers.txt
	$(PYTHON) -m venv benchmarks/.peers
	benchmarks/.peers/bin/python -m pip --disable-pip-version-check install --quiet --requirement benchmarks/peers.txt
	touch $@

clean:
	rm -rf $(VENV) benchmarks/.peers build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache
