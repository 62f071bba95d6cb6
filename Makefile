# Everything starts here. `make` alone says what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin

.PHONY: soak kills help setup setup-dev demo test test-fast fuzz lint format reference conformance licences bench clean

help: ## List the targets
	@echo "Avara Gateway. Two commands show it:"
	@echo "  make demo          do the main job for real, and report what happened"
	@echo "  make test          run every check and test"
	@echo "More:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.installed ## Make the virtual environment and install the gateway into it

setup-dev: $(VENV)/.installed-dev ## The same, with what tests and linters need

$(VENV)/.installed: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) .
	@touch "$@"

$(VENV)/.installed-dev: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) '.[dev]'
	@touch "$@" $(VENV)/.installed

demo: setup ## Do the main job for real; KEEP=1 leaves it running to play with, WORST=1 has the worst PACS in town
	@scripts/install-system-packages --optional orthanc
	@$(if $(WORST),$(BIN)/python -m tests.rig.worst,$(BIN)/avara-gateway demo) $(if $(KEEP),--keep)

test: setup-dev ## Run linters, type checks and the whole suite; says what was left out, and why
	@scripts/install-system-packages orthanc orthanc-dicomweb dcmtk dicom3tools libgdcm-tools chromium openssl iproute2 nginx-light
	@scripts/install-system-packages --optional prometheus
	@$(MAKE) --no-print-directory lint
	@scripts/run-tests $(BIN)/python $(PYTEST)

test-fast: setup-dev ## Run the tests that start no server and wait for nothing; PYTEST="-k word" chooses among them
	@$(BIN)/python -m pytest -q --hypothesis-profile=fast -m "not server and not slow" $(PYTEST)

fuzz: setup-dev ## Fuzz each target of tests/fuzz for SECONDS (60), or one, TARGET, until it breaks
	@$(if $(TARGET),$(BIN)/python -m tests.fuzz $(TARGET),\
	for target in acceptor request answer command elements closer viewable structure upload; do \
	    echo "$$target"; $(BIN)/python -m tests.fuzz $$target -max_total_time=$(or $(SECONDS),60) -timeout=10 -verbosity=0 || exit 1; \
	done)

soak: setup-dev ## Every fault again and again under mixed load for MINUTES (30), TIMES (3) a large hospital's; a verdict
	@scripts/install-system-packages orthanc
	@$(BIN)/python -m tests.faults soak $(or $(MINUTES),30) $(or $(TIMES),3)

kills: setup-dev ## N (100) rounds of kill -9 of the gateway, its store and both, under mixed work
	@scripts/install-system-packages orthanc
	@$(BIN)/python -m tests.faults kills $(or $(N),100)

lint: setup-dev ## Run ruff, mypy, the layer check and the check of what is imported against what is declared
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@found=$$($(BIN)/lint-imports --no-logo) || { echo "$$found"; exit 1; }
	@found=$$($(BIN)/deptry . --no-ansi 2>&1) || { echo "$$found"; exit 1; }

format: setup-dev ## Format the code
	@$(BIN)/ruff format .

reference: setup-dev ## Write config/reference.md from the models
	@$(BIN)/python scripts/write-reference

conformance: setup-dev ## Write the tables of docs/conformance.md from the code's own lists
	@$(BIN)/python scripts/write-conformance

licences: setup-dev ## Write docs/licences.md from what is installed
	@$(BIN)/python scripts/write-licences

bench: setup-dev ## Measure; prints a table, writes bench/out/. QUICK=1 is shorter, PARTS="cold warm" less
	@scripts/install-system-packages orthanc dcmtk
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(PARTS)

clean: ## Remove the virtual environment and what tools left
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache bench/out
