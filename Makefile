# Everything sets itself up: Python >= 3.10 and make are all that is needed.

PYTHON ?= python3
BIN := .venv/bin
PARALLEL := --numprocesses=auto --dist=worksteal

.PHONY: help
help:
	@echo 'make demo         run the exporter against a simulated CAVATICA'
	@echo 'make test         all tests, with coverage'
	@echo 'make deploy-test  the tests of deploy/, with the programs that read it in use'
	@echo 'make check        lint and the unit tests but the slow ones: what to run while working'
	@echo 'make test-lowest  the unit tests with the oldest versions of all dependencies'
	@echo 'make lint         ruff and mypy'
	@echo 'make servers      Prometheus and Alertmanager for the tests, which make test gets by itself'
	@echo 'make browser      what the tests of the status page need (Node; Chromium is the system'"'"'s)'
	@echo 'make soak         ten minutes of faults, edits and scrapers, and a restart (MINUTES=10 SEED=1; Linux)'
	@echo 'make fuzz         the property-based tests with many more examples'
	@echo 'make bench        benchmark with up to 100,000 exports, beside a naive exporter (Linux)'
	@echo 'make fmt          format the code, fix what ruff can fix'
	@echo 'make constraints  renew the pinned versions of the tools'
	@echo 'make pictures     pictures of the dashboards; needs Node, Chromium and pngquant'
	@echo 'make clean        remove everything that make made'

.PHONY: demo
demo: .venv/ready servers
	@$(BIN)/python -m scripts.demo

.PHONY: test
test: .venv/ready servers grafana
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m 'not deploy' $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# What to run while working: half a minute.
.PHONY: check
check: lint
	$(BIN)/pytest -q tests/unit -m 'not slow' --hypothesis-profile=check $(PARALLEL)

# The oldest versions of all dependencies that pyproject.toml allows, found by uv.
.PHONY: test-lowest
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip compile --quiet --resolution lowest-direct pyproject.toml -o .venv-lowest/lowest.txt
	VIRTUAL_ENV=.venv-lowest .venv-lowest/bin/uv pip install --quiet -r .venv-lowest/lowest.txt -e '.[dev]'
	.venv-lowest/bin/python -m pytest -q tests/unit $(PARALLEL)

.PHONY: lint
lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# What cannot be had on this machine is named first, and its tests are listed as skipped at the end.
.PHONY: deploy-test
deploy-test: .venv/ready
	@PYTHON=$(PYTHON) scripts/get-deploy-tools .deploy-tools
	$(BIN)/pytest -m deploy

MINUTES ?= 10
SEED ?= $(shell date +%s)
.PHONY: soak
soak: .venv/ready
	$(BIN)/python -m tests.system.soak --minutes $(MINUTES) --seed $(SEED)

.PHONY: fuzz
fuzz: .venv/ready
	$(BIN)/pytest -m hypothesis --hypothesis-profile=fuzz

.PHONY: bench
bench: .venv/ready
	$(BIN)/python -m benchmarks

.PHONY: fmt
fmt: .venv/ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Where the programs cannot be had, the script says why and the tests that need them are skipped
# (and fail under CI=true).
.PHONY: servers
servers:
	@scripts/get-servers .servers

# What the tests of the status page need beside Chromium and Node.
.PHONY: browser
browser:
	npm ci --prefix tests/browser --no-progress

# Grafana's published libraries, which the tests of the dashboards use; needs Node and npm.
.PHONY: grafana
grafana:
	@scripts/get-grafana .grafana oldest newest

# Pictures of the dashboards for the README; for maintainers. Look at them before you commit them.
.PHONY: pictures
pictures: .venv/ready servers
	scripts/get-grafana .grafana pictures
	$(BIN)/python -m tests.grafana.pictures docs/pictures

.PHONY: constraints
constraints:
	scripts/renew-constraints python3.10 constraints.txt

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo 'error: Python 3.10 or newer is needed; name it: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'error: this Python has no venv; on Debian: apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: clean
clean:
	rm -rf .venv .venv-lowest .servers .grafana tests/browser/node_modules .deploy-tools .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
