# Everything on a fresh machine with Python 3.11 and make:
#   make sweep    set up, then run the quickstart sweep on the embedded faces
#   make test     set up, then run every test
PYTHON ?= python3.11
BIN := .venv/bin
SWEEP ?= sweeps/quickstart.yaml

.PHONY: setup sweep test lint docs chaos wheel mlflow browser

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

sweep: setup
	$(BIN)/python -m emoray.sweep $(SWEEP)

# Two files of tests at a time: those that wait for Ray leave half of the cores idle.
test: setup lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# docs/components.md from the signatures; a test holds it in step.
docs: setup
	$(BIN)/python -m emoray.catalogue > docs/components.md

# Sweeps whose driver is killed 30 times at random moments, nodes, workers and trials too, and nodes that are called back:
# about an hour.
chaos: setup
	EMORAY_KILLS=30 $(BIN)/python -m pytest tests/test_chaos.py tests/test_chaos_nodes.py \
		tests/test_s3_end_to_end.py tests/test_two_nodes.py tests/test_distributed.py

# What machines of a cluster install: this project as one file, and the versions that it is tested with.
wheel: setup
	rm -rf dist
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	cp constraints.txt dist/

# MLflow for the tests of tracking: the client beside the project, the server (which wants older libraries than ours) in an
# environment of its own. Without them these tests are skipped.
mlflow: setup .venv-mlflow/ready

.venv-mlflow/ready: tests/mlflow_server.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mlflow]'
	$(PYTHON) -m venv .venv-mlflow
	.venv-mlflow/bin/pip install --quiet --disable-pip-version-check -r tests/mlflow_server.txt
	touch $@

# The browser that the report's tests drive, on Debian and its kin; without it they are skipped.
browser:
	command -v chromium >/dev/null || (apt-get update -q && apt-get install -y -q --no-install-recommends chromium chromium-driver)
