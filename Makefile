# Run `make` to list the targets. Everything runs in .venv, which is made when it is missing.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# MLflow and DVC send no usage statistics (DVC: .dvc/config).
export MLFLOW_DISABLE_TELEMETRY := true

PORT ?=
ADDRESS ?= 127.0.0.1
MODEL ?=
# Not taken from the environment, where they may mean something else.
export VIDEO :=
FORMAT :=
OUTPUT :=
PREVIEW :=
TIMELINE := no
CLIPS :=
VERSION :=
export REASON :=
PROMOTE := yes
WAIT := no
AGAIN := no
JSON := no
FILES := few
export KEEP :=
export BRANCH :=
FOLDS ?= 5
SEED ?= 0
A ?= HEAD
B ?= workspace

# $(call is,NAME,wanted,other): not empty if NAME is what is wanted; an error if it is neither.
is = $(if $(filter $(2) $(3),$($(1))),$(filter $(2),$($(1))),$(error $(1): expected $(2) or $(3). Received: $($(1))))

.DEFAULT_GOAL := help
.PHONY: help install repro crossval test lint format ui compare predict serve export screenshots lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv from requirements.txt (the other targets do it by themselves)

$(INSTALLED): requirements.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "error: Python 3.11 is needed, found $$("$(PYTHON)" -V 2>&1). Set PYTHON=path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.txt
	@touch $@

repro: $(INSTALLED) ## Rebuild whatever has changed, from videos to a registered model
	@python -m pipeline.check
	@dvc repro
	@python -m pipeline.summary

crossval: $(INSTALLED) ## Cross-validate the recipe on all clips, by group (FOLDS=5 SEED=0)
	@python -m pipeline.check
	@dvc repro extract
	@python -m pipeline.crossval --folds $(FOLDS) --seed $(SEED)

test: $(INSTALLED) ## Run the tests
	python -m pytest

lint: $(INSTALLED) ## Check style and types
	ruff check
	ruff format --check
	mypy

format: $(INSTALLED) ## Put the code into the project's style
	ruff check --fix
	ruff format

ui: $(INSTALLED) ## Browse runs and models at http://127.0.0.1:5000 (or PORT=...)
	@mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" \
		--host 127.0.0.1 --port $(or $(PORT),5000)

compare: $(INSTALLED) ## Compare versions, runs or commits: make compare A=@champion B=workspace
	@python -m pipeline.compare "$(A)" "$(B)"

predict: $(INSTALLED) ## Classify files, folders, patterns: VIDEO="a.mp4 b.mp4" (FORMAT=csv|json OUTPUT= PREVIEW= TIMELINE=yes CLIPS=n)
	@python -m pipeline.predict $(if $(MODEL),--model "$(MODEL)") $(if $(FORMAT),--format "$(FORMAT)") \
		$(if $(OUTPUT),--output "$(OUTPUT)") $(if $(PREVIEW),--preview "$(PREVIEW)") \
		$(if $(call is,TIMELINE,yes,no),--timeline) $(if $(CLIPS),--clips "$(CLIPS)") -- "$$VIDEO"

serve: $(INSTALLED) ## Serve @champion at http://127.0.0.1:5001 (PORT=... ADDRESS=... MODEL=...)
	@python -m pipeline.serve $(if $(MODEL),--model "$(MODEL)") --host $(ADDRESS) $(if $(PORT),--port $(PORT))

.PHONY: retrain pull ci-commit ci-report ci-outcome data-check trace rebuild
pull: $(INSTALLED) ## Get the videos and their catalog from DVC's remote
	@python -m pipeline.ci pull

ci-commit: $(INSTALLED) ## CI: commit and push the results of a retraining (BRANCH=...)
	@python -m pipeline.ci commit --branch "$$BRANCH"

ci-report: $(INSTALLED) ## CI: post eval/retrain.md to the summary of the job and the pull request
	@python -m pipeline.ci report

ci-outcome: $(INSTALLED) ## CI: print version= and promotable= for later jobs
	@python -m pipeline.ci outcome

retrain: $(INSTALLED) ## Pull, check data, run what changed, gate, push, report (PROMOTE=no WAIT=yes)
	@python -m pipeline.retrain $(if $(call is,PROMOTE,no,yes),--judge) $(if $(call is,WAIT,yes,no),--wait)

data-check: $(INSTALLED) ## Check the data before training, against the champion's
	@python -m pipeline.check
	@dvc repro decode
	@python -m pipeline.data_check

trace: $(INSTALLED) ## Print what a version was made from (VERSION=n or an alias, FILES=all, JSON=yes)
	@python -m pipeline.trace --version "$(or $(VERSION),champion)" $(if $(call is,FILES,all,few),--files) \
		$(if $(call is,JSON,yes,no),--json)

rebuild: $(INSTALLED) ## Make a version again from its commit and compare (VERSION=n, KEEP=folder)
	@python -m pipeline.rebuild --version "$(or $(VERSION),champion)" $(if $(KEEP),--keep "$$KEEP")

export: $(INSTALLED) ## Write @champion as .keras and SavedModel into exported/ (MODEL=... OUTPUT=...)
	@python -m pipeline.export $(if $(MODEL),--model "$(MODEL)") $(if $(OUTPUT),--output "$(OUTPUT)")

.PHONY: promote rollback champions
promote: $(INSTALLED) ## Make the challenger champion if it passes the gate (VERSION=n: another, AGAIN=yes: though rolled back)
	@python -m pipeline.promote $(if $(VERSION),--version "$(VERSION)") $(if $(call is,AGAIN,yes,no),--again)

rollback: $(INSTALLED) ## Give champion back to the version before (REASON="..." VERSION=n)
	@python -m pipeline.rollback $(if $(REASON),--reason "$$REASON") \
		$(if $(VERSION),--version "$(VERSION)")

champions: $(INSTALLED) ## Print who was champion when
	@python -m pipeline.rollback --list

lock: $(INSTALLED) ## Pin the newest versions that pyproject.toml allows into requirements.txt
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--group dev --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		--output-file requirements.txt pyproject.toml

screenshots: $(INSTALLED) ## Take the pictures of docs/review.md again, after make repro
	@python -m docs.screenshots

clean: ## Remove what the pipeline made (not .venv, the DVC cache or the MLflow store)
	rm -rf data/catalog data/clips data/features data/frames data/report data/demo/videos models \
		eval dvc_plots
