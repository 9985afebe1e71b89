# Everything a person or CI runs. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
EXTRAS := service,offline,loadtest,test
SECONDS ?= 120
SEED ?=
STEPS ?= 10000
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo serve train test test-cluster fold-model chaos chaos-cluster chaos-embedded check format kafka loadtest bench compose-smoke clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Create .venv and install everything into it

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3"; exit 1; }
	@echo "Installing into $(VENV) (once, a minute or two) ..."
	@started=$$(date +%s); $(PYTHON) -m venv $(VENV) \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]' \
	  && echo $$(( $$(date +%s) - started )) > $@

demo: $(INSTALLED) ## Train, serve and watch it learn from simulated users (SECONDS=120)
	@$(BIN)/python -m loadtest.demo --seconds $(SECONDS) --install-seconds $$(cat $(INSTALLED))

serve: $(INSTALLED) ## Keep the service running on http://127.0.0.1:8000 with the newest bundle
	@$(BIN)/python -m service

train: $(INSTALLED) ## Train on the default data set and publish a bundle
	@$(BIN)/python -m offline run

test: $(INSTALLED) ## Run the tests (those that need Kafka or a Redis Cluster: make test-cluster)
	@$(BIN)/python -m pytest -m 'not kafka and not cluster' -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-cluster: $(INSTALLED) ## Start a real Apache Kafka and a Redis Cluster, run the tests that need them, stop both
	@$(BIN)/python -m pytest -m 'kafka or cluster' $(PYTEST_ARGS)

fold-model: $(INSTALLED) ## Drive the fold against its model (STEPS=10000, SEED=)
	@$(BIN)/python -m tests.service.fold.explore --steps $(STEPS) $(if $(SEED),--seed $(SEED))

CHAOS = $(BIN)/python -m tests.chaos
CHAOS_ARGS = $(if $(SEED),--seed $(SEED)) $(if $(filter-out file,$(origin SECONDS)),--seconds $(SECONDS))

chaos: $(INSTALLED) ## Kill folds, Redis and Kafka under traffic, then compare with the log (5 minutes; SEED=, SECONDS=)
	@$(CHAOS) kafka $(CHAOS_ARGS)

chaos-cluster: $(INSTALLED) ## The same on a Redis Cluster of three masters (3 minutes)
	@$(CHAOS) cluster $(CHAOS_ARGS)

chaos-embedded: $(INSTALLED) ## The same on the embedded service: SQLite and a private Valkey (3 minutes)
	@$(CHAOS) embedded $(CHAOS_ARGS)

check: $(INSTALLED) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

kafka: ## Run a real Apache Kafka on 127.0.0.1:9092 (needs Java 17 and Maven)
	@deploy/kafka/start

loadtest: $(INSTALLED) ## A minute of realistic load on a local service: CSV and HTML report
	@$(BIN)/python -m loadtest.run

bench: $(INSTALLED) ## Speed: serving, fold, freshness
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.fold
	@$(BIN)/python -m benchmarks.freshness

compose-smoke: ## Build the images and close the loop inside the docker-compose cluster
	@deploy/compose/smoke

clean: ## Remove what runs left behind (not .venv)
	rm -rf build bundles state demo-report loadtest-report .kafka .pytest_cache .mypy_cache .ruff_cache .hypothesis
