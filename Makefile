# Run `make` to list the targets, and `vidpipe --help` for everything else.

VENV := .venv
INSTALLED := $(VENV)/.installed
INSTALLED_CLUSTER := $(VENV)/.installed-cluster
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# DVC sends no usage statistics either: .dvc/config.
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help install install-cluster repro retrain ui test test-all lint lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Build .venv from requirements.txt; the other targets do it when needed

# The newest interpreter that TensorFlow has wheels for, or PYTHON. Not the one in .venv.
$(INSTALLED): requirements.txt pyproject.toml
	@export PATH="$${PATH#*:}"; \
	set -- python3.13 python3.12 python3.11 python3; [ -z "$$PYTHON" ] || set -- "$$PYTHON"; \
	for python; do \
		if "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
				> /dev/null 2>&1; then \
			echo "Installing .venv with $$("$$python" -V), $$(command -v "$$python"); two minutes"; \
			exec "$$python" -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "error: expected Python 3.11, 3.12 or 3.13 with its module venv. Received:" \
		"$$python, $$("$$python" -V 2>&1). Install one, or set PYTHON=path/to/python3.13" >&2; exit 1
	$(VENV)/bin/python -m pip install --quiet --no-compile --require-hashes -r requirements.txt
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true # pip compiles on one core
	@touch $@

install-cluster: $(INSTALLED_CLUSTER) ## Add Ray, remotes and PostgreSQL: docs/scale.md

$(INSTALLED_CLUSTER): $(INSTALLED) requirements-cluster.txt
	uv pip install --quiet --compile-bytecode --python $(VENV)/bin/python \
		--require-hashes -r requirements-cluster.txt
	@touch $@

repro: $(INSTALLED) ## Run the stages that are out of date, from videos to a registered model
	@vidpipe repro

retrain: $(INSTALLED) ## Pull, check data, run what changed, judge, push, report
	@vidpipe retrain

ui: $(INSTALLED) ## Browse runs and models at http://127.0.0.1:5000 (PORT=5050: at another port)
	@mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 --port "$${PORT:-5000}" \
		|| { echo "error: the UI has ended. If port $${PORT:-5000} is in use: make ui PORT=5050" >&2; exit 1; }

test: $(INSTALLED) ## Run the tests, without the long sweeps
	python -m pytest -n 2 -m "not long"

test-all: $(INSTALLED) ## Run all tests
	python -m pytest -n 2

lint: $(INSTALLED) ## Check style and types
	ruff check
	ruff format --check
	mypy

lock: $(INSTALLED) ## Pin the newest versions that pyproject.toml allows into requirements.txt
	uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes \
		--group dev --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file requirements.txt pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes \
		--extra cluster --group cluster-test --constraint requirements.txt \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file requirements-cluster.txt pyproject.toml

clean: ## Delete what the pipeline wrote (not .venv, the DVC cache or the MLflow store)
	rm -rf data/catalog data/clips data/features data/frames data/report data/demo/videos* models eval dvc_plots
