# The documented commands. CI calls the same ones.
PYTHON ?= $(shell command -v python3.11 || echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEPLOY := $(VENV)/.deploy-ready
BENCH  := $(VENV)/.bench-ready
# `make lock UPGRADE=` keeps every version that still fits.
UPGRADE := --upgrade
COMPILE := uv pip compile pyproject.toml --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 $(UPGRADE)

.DEFAULT_GOAL := help
.PHONY: help setup demo run proto docs fmt lint types test check clean lock soak storm busy test-chaos \
        bench bench-quick leaks fuzz abuse flood tls-scan \
        deploy-setup deploy-check dashboards pictures image sbom audit release release-check

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv with the locked requirements

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python setup" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: $(STAMP) ## Simulator, adapter, an intercept and its events; ends by itself
	$(BIN)/qc-adapter demo

run: $(STAMP) ## The adapter against a simulator, until Ctrl-C
	$(BIN)/qc-adapter demo --serve

proto: $(STAMP) ## Generate qc_adapter/v1 from protos/
	$(BIN)/python scripts/proto.py

docs: $(STAMP) ## Generate the reference pages that come from tables in the code
	$(BIN)/python scripts/docs.py

fmt: $(STAMP) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: $(STAMP) ## Lint code, layers and contract; find drift of generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python scripts/proto.py --check
	$(BIN)/python scripts/docs.py --check

types: $(STAMP) ## Check types
	$(BIN)/mypy

test: $(STAMP) ## Run the tests
	$(BIN)/pytest --numprocesses 3 --dist loadscope

storm: $(STAMP) ## 1,000 intercepts at once, storms of 20,000 calls, half cancelled; about 4 minutes
	$(BIN)/python -m bench.storm

$(BENCH): $(STAMP) requirements-bench.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-bench.txt
	@touch $@

bench: $(BENCH) ## What it costs, side by side with others; writes docs/performance.md; 20 minutes
	$(BIN)/python -m bench.speed

bench-quick: $(BENCH) ## The same in short, prints only; 2 minutes
	$(BIN)/python -m bench.speed --quick

leaks: $(BENCH) deploy-setup ## An hour of mixed load with cancels, resets and rotations; draws memory, tasks, descriptors
	$(BIN)/python -m bench.leaks --keep

soak: $(STAMP) ## Inspectors kept signed in over GUID rotations at real speed; 6 minutes
	$(BIN)/python -m bench.soak

busy: $(STAMP) ## A call centre of 500 agents, 50 inspectors at work, with polls and with pushes; 11 minutes
	$(BIN)/python -m bench.centre

test-chaos: $(STAMP) ## Kill, freeze, cut off and starve replicas, Redis and gateway; writes docs/reliability.md
	$(BIN)/python -m bench.chaos --write docs/reliability.md
	$(BIN)/python -m bench.chaos --push --short --times 2 --write docs/reliability.md

fuzz: $(STAMP) requirements-fuzz.txt ## Feed every reader of foreign bytes, guided by coverage; 35 minutes
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-fuzz.txt
	$(BIN)/python -m bench.fuzz --seconds 180

abuse: $(STAMP) ## Abuse the ports as no client would, and see who is harmed; 15 minutes
	$(BIN)/python -m bench.abuse

flood: $(STAMP) ## One caller at 100 times its limit beside another; 2 minutes
	$(BIN)/python -m bench.flood

tls-scan: $(STAMP) ## What TLS the ports offer, by sslyze in an environment of its own
	$(BIN)/python scripts/tls_scan.py

check: lint types ## Everything but the tests

$(DEPLOY): $(STAMP) requirements-deploy.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-deploy.txt
	@touch $@

deploy-setup: $(DEPLOY) ## What deploy-check and release-check need on top: packages, Prometheus, kustomize
	$(BIN)/python scripts/tools.py

deploy-check: deploy-setup ## Manifests, image, rules and dashboards, each by its real tool
	$(BIN)/pytest --numprocesses 2 --dist loadscope deploy/tests

dashboards: $(DEPLOY) ## Generate the Grafana dashboards
	$(BIN)/python deploy/grafana/build.py

pictures: deploy-setup ## Draw what an operator sees, and a killed replica; 12 minutes
	$(BIN)/python -m bench.pictures
	$(BIN)/python -m bench.pictures --kill

image: ## Build the container image with docker, podman or buildah
	sh deploy/image.sh

sbom: $(DEPLOY) ## What is inside, from the lock: dist/*.cdx.json
	$(BIN)/python scripts/sbom.py

audit: $(DEPLOY) ## Known vulnerabilities of what the lock names; 3 says that nobody knew
	$(BIN)/python scripts/audit.py

release: $(DEPLOY) ## release-check that skips nothing and wants the changelog dated
	$(BIN)/python scripts/release.py --release

release-check: $(DEPLOY) ## Everything that a release has to pass; needs a clean tree
	$(BIN)/python scripts/release.py

lock: ## Renew the lock files (needs uv on PATH)
	$(COMPILE) --extra fast --extra tracing --output-file requirements.txt
	$(COMPILE) --extra fast --extra tracing --group dev --output-file requirements-dev.txt
	$(COMPILE) --group deploy --constraint requirements-dev.txt --output-file requirements-deploy.txt
	$(COMPILE) --group bench --constraint requirements-dev.txt --output-file requirements-bench.txt
	$(COMPILE) --group fuzz --constraint requirements-dev.txt --output-file requirements-fuzz.txt
	uv pip compile requirements-scan.in --generate-hashes --no-emit-index-url --no-header --no-annotate \
	    --python-version 3.11 $(UPGRADE) --output-file requirements-scan.txt

clean: ## Remove what the other targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .tools build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
