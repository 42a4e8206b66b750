# Everything here sets itself up on a machine that has Python (3.11, 3.12 or 3.13) and make. `make help` lists what there is.
# The newest of them is taken (requirements/python.sh); PYTHON=<path> decides otherwise, VENV=<folder> where it is installed.
VENV   ?= .venv
BIN    := $(VENV)/bin
KEDRO  := $(BIN)/kedro
# What is started starts others by their names (`kedro mlflow ui` calls `mlflow`): they are in the environment too.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHON
export DO_NOT_TRACK = 1
export KEDRO_DISABLE_TELEMETRY = 1
export GX_ANALYTICS_ENABLED = false

# The page's own tests need Node.js; where there is none, the page is left out and its browser tests are skipped.
NPM := $(shell command -v npm 2>/dev/null)

# Where the real photos lie, for `make flickr8k`. docs/data.md tells how to get them.
DATA    ?= data/01_raw/flickr8k
WEIGHTS ?= data/01_raw/weights/mobilenet_v2.pth

# A Bento that was built with `captionloop package --output build/bento`, and what makes its bill of materials.
BENTO ?= build/bento
BILL  := .venv-sbom/bin/cyclonedx-py requirements --output-format JSON --output-reproducible

# What `make serve`, `make viz` and `make mlflow` are told besides: make viz ARGS="--port 4142 --no-browser".
ARGS ?=

# The sample model where the registry has no champion. A registry that does not answer is told instead.
FIRST_MODEL = versions=$$($(BIN)/captionloop models list --json) || exit 1; \
	case "$$versions" in *'"champion"'*) ;; *) $(MAKE) demo;; esac

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Asked at every call, so that PYTHON=<another version> is answered although there is an environment.
.PHONY: $(VENV)/python
$(VENV)/python:
	@requirements/python.sh venv $(VENV)

$(VENV)/.installed: requirements/bootstrap.txt requirements/project.txt pyproject.toml | $(VENV)/python
	@echo "Installing the project's environment into $(VENV) (about 7 GB, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/project.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

##@ Run it

.PHONY: install
install: $(VENV)/.installed  ## the project's environment, in .venv

.PHONY: demo
demo: install  ## from nothing to a trained, evaluated, registered captioner on generated scenes
	$(KEDRO) run --pipelines demo --only-missing-outputs --report

.PHONY: flickr8k
flickr8k: install  ## the same on 7,000 real photos: make flickr8k DATA=<folder> WEIGHTS=<file>
	$(KEDRO) run --env flickr8k --pipelines from_corpus --only-missing-outputs --report --params "data=$(DATA),weights=$(WEIGHTS)"

.PHONY: page
page: frontend/dist/index.html  ## the web page, built into frontend/dist

frontend/node_modules/.installed: frontend/package-lock.json
	npm --prefix frontend ci --no-fund --no-audit --loglevel=error
	@touch $@

frontend/dist/index.html: frontend/node_modules/.installed $(shell find frontend/src frontend/public frontend/index.html -type f 2>/dev/null)
	npm --prefix frontend run build

.PHONY: serve
serve: install $(if $(NPM),page)  ## the service on this machine, ARGS="--port 3001" elsewhere; trains the sample model if there is none
	@$(FIRST_MODEL)
	@$(BIN)/captionloop serve $(ARGS)

##@ The loop

.PHONY: .venv-airflow/python
.venv-airflow/python:
	@requirements/python.sh venv .venv-airflow

.venv-airflow/.installed: requirements/bootstrap.txt requirements/airflow.txt | .venv-airflow/python
	@echo "Installing Airflow's environment into .venv-airflow (about 600 MB, once) ..."
	@.venv-airflow/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@.venv-airflow/bin/uv pip sync --quiet --compile-bytecode --python .venv-airflow/bin/python --require-hashes requirements/bootstrap.txt requirements/airflow.txt
	@touch $@

.PHONY: install-airflow
install-airflow: .venv-airflow/.installed  ## Airflow's environment, in .venv-airflow

.PHONY: airflow
airflow: install install-airflow  ## Airflow with its UI beside `make serve`: retraining and monitoring
	@deploy/airflow/standalone.sh

.PHONY: airflow-login
airflow-login: install-airflow  ## where Airflow is, and how to log in
	@deploy/airflow/login.sh

.PHONY: loop-demo
loop-demo: install  ## the whole loop with simulated people: rate, correct, retrain, gate, promote, five times
	@$(FIRST_MODEL)
	$(BIN)/python -m benchmarks.loop --ceiling 12 --figure docs/images/learning-curve.png

##@ Check it

.PHONY: test
test: unit integration kills  ## the quick tests, and those that kill what must survive; `make e2e` for all with real processes

# What is never lost: features, a training, a rating.
KILLS := feature_caching_survives_kill training_survives_kill service_ratings_survive

.PHONY: kills
kills: install  ## killed processes end as if they had not been
	$(BIN)/pytest -m e2e $(KILLS:%=tests/e2e/test_%.py)

# One thread for each worker: what the tests compute is small, and two pools of threads on the same cores fight.
.PHONY: unit
unit: install install-airflow $(if $(NPM),page)  ## the quick tests of the library, the pipelines and the page
	$(if $(NPM),npm --prefix frontend test)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit -m "not e2e and not integration" --numprocesses auto --maxprocesses 4

.PHONY: integration
integration: install  ## pipelines, registry, database, gateway, commands and simulations in one process, with real stores
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/unit -m "integration and not e2e" --numprocesses auto --maxprocesses 4

# The processors of many machines have AVX2 and nothing newer; others are told to do as if.
.PHONY: unit-avx2
unit-avx2: install  ## the unit tests of captioner/, training/ and vision/ as on a machine whose processor has AVX2 at most
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 OMP_NUM_THREADS=1 \
	  $(BIN)/pytest -m "not e2e" --numprocesses auto --maxprocesses 4 tests/unit/captioner tests/unit/training tests/unit/vision

# make unit-some VENV=.venv-3.12 PYTHON=python3.12
.PHONY: unit-some
unit-some: install  ## two minutes of the quick tests, for another Python beside the first: VENV=<folder> PYTHON=<path>
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not e2e" --numprocesses auto --maxprocesses 4 $(SOME)

SOME := $(addprefix tests/unit/,captioner/test_captioner.py captioner/test_decoders.py captioner/test_packing.py commands \
  scoring serving registry ratings feedback pipelines/test_registration.py vision/test_images.py vision/test_encoder.py)

.PHONY: uses
uses: install install-airflow $(if $(NPM),page)  ## every named use once, with real processes: what `.ci/run` does besides `make lint test`
	OMP_NUM_THREADS=1 $(BIN)/pytest -m named_use --durations=30

.PHONY: e2e
e2e: install install-airflow $(if $(NPM),page)  ## real processes and a real browser; what needs a missing Debian package is skipped
	$(BIN)/pytest -m "e2e and not service"
	@$(MAKE) e2e-service

# Most of it waits, for processes to start and for deadlines to pass: three files at a time. What measures runs alone.
.PHONY: e2e-service
e2e-service: install $(if $(NPM),page)  ## of `make e2e` the service: gateways, model servers, databases, proxies, the page in a browser
	$(BIN)/pytest tests/e2e -m "service and not alone" --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations=30
	$(BIN)/pytest tests/e2e -m "service and alone" --durations=10

.PHONY: bench
bench: install  ## every claim about speed and memory, beside its alternative, measured in one run
	@$(BIN)/python -m benchmarks $(TABLES)

.PHONY: lint
lint: install $(if $(NPM),frontend/node_modules/.installed)  ## ruff, mypy, and the page's own linter
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(if $(NPM),npm --prefix frontend run lint)

##@ Change it

.PHONY: format
format: install  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: install  ## resolve the requirements anew, with hashes and without addresses
	$(COMPILE) $(UPGRADE) requirements/bootstrap.in -o requirements/bootstrap.txt
	$(COMPILE) $(UPGRADE) --all-extras pyproject.toml -o requirements/project.txt
	$(COMPILE) --extra serving --extra object-storage --constraint requirements/project.txt pyproject.toml \
	  -o requirements/pipelines.txt
	$(COMPILE) requirements/airflow.in -o requirements/airflow.txt
	$(COMPILE) $(UPGRADE) requirements/sbom.in -o requirements/sbom.txt

# One lock for every supported Python: 3.11 is the oldest, `requires-python` says the newest. `make lock UPGRADE=` adds what is
# new and leaves the rest as it is.
UPGRADE ?= --upgrade
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
  --no-header

.PHONY: .venv-sbom/python
.venv-sbom/python:
	@requirements/python.sh venv .venv-sbom

.venv-sbom/.installed: requirements/bootstrap.txt requirements/sbom.txt | .venv-sbom/python
	@.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sbom.txt
	@touch $@

# Those of the images are made from the images themselves, when they are released (.github/workflows/release.yml).
.PHONY: sbom
sbom: .venv-sbom/.installed  ## bills of materials (CycloneDX) of the project's environments and of a Bento, into build/sbom: BENTO=<folder>
	@mkdir -p build/sbom
	@for part in project pipelines airflow; do $(BILL) requirements/$$part.txt --output-file build/sbom/$$part.cdx.json || exit 1; done
	@if [ -d "$(BENTO)" ]; then $(BILL) $(BENTO)/env/python/requirements.txt --output-file build/sbom/bento.cdx.json; fi
	@ls build/sbom

##@ Look at it

.PHONY: viz
viz: install  ## the pipelines' lineage in a browser
	$(KEDRO) viz run $(ARGS)

.PHONY: mlflow
mlflow: install  ## runs, curves and model versions in a browser
	$(KEDRO) mlflow ui $(ARGS)

.PHONY: docs
docs: install  ## the documentation with the lineage view, into site/; fails on a broken link
	$(BIN)/python -m docs.builder

.PHONY: clean
clean:  ## remove what runs leave behind (not the environment, not data/01_raw)
	rm -rf data/0[2-8]_* mlflow.db mlruns .viz site build

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-16s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
