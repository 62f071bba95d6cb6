# Everything starts here. `make` alone says what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
TOOLS := build/tools

.PHONY: soak kills attacks help setup setup-dev demo test test-fast fuzz lint format reference conformance licences bench clean \
	manual lock wheel sbom audit deb bundle test-install test-containers

help: ## List the targets
	@echo "Avara Gateway. Two commands show it:"
	@echo "  make demo          do the main job for real, and report what happened"
	@echo "  make test          run every check and test"
	@echo "More:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-13s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.installed ## Make the virtual environment and install the gateway into it

setup-dev: $(VENV)/.installed-dev ## The same, with what tests and linters need

$(VENV)/.installed: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) -e .
	@touch "$@"

$(VENV)/.installed-dev: pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV) -e '.[dev]'
	@touch "$@" $(VENV)/.installed

demo: setup ## Do the main job for real; KEEP=1 leaves it running to play with, WORST=1 has the worst PACS in town
	@scripts/install-system-packages --optional orthanc
	@$(if $(WORST),$(BIN)/python -m tests.rig.worst,$(BIN)/avara-gateway demo) $(if $(KEEP),--keep)

test: setup-dev ## Run linters, type checks and the whole suite; says what was left out, and why
	@scripts/install-system-packages orthanc orthanc-dicomweb dcmtk dicom3tools libgdcm-tools chromium openssl iproute2 nginx-light groff-base
	@scripts/install-system-packages --optional prometheus
	@$(MAKE) --no-print-directory lint
	@scripts/run-tests $(BIN)/python $(PYTEST)

test-fast: setup-dev ## Run the tests that start no server and wait for nothing; PYTEST="-k word" chooses among them
	@unset PYTHONDONTWRITEBYTECODE; \
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --hypothesis-profile=fast -m "not server and not slow" $(PYTEST)

fuzz: setup-dev ## Fuzz each target of tests/fuzz for SECONDS (60), or one, TARGET, until it breaks
	@$(if $(TARGET),$(BIN)/python -m tests.fuzz $(TARGET),\
	for target in acceptor request answer command elements closer viewable structure mended upload; do \
	    echo "$$target"; $(BIN)/python -m tests.fuzz $$target -max_total_time=$(or $(SECONDS),60) -timeout=10 -verbosity=0 || exit 1; \
	done)

soak: setup-dev ## Every fault again and again under mixed load for MINUTES (30), TIMES (3) a large hospital's; a verdict
	@scripts/install-system-packages orthanc
	@$(BIN)/python -m tests.faults soak $(or $(MINUTES),30) $(or $(TIMES),3)

kills: setup-dev ## N (100) rounds of kill -9 of the gateway, its store and both, under mixed work
	@scripts/install-system-packages orthanc
	@$(BIN)/python -m tests.faults kills $(or $(N),100)

attacks: setup-dev ## How many times as long honest work takes beside each attack of tests/attacks; ROUNDS (5), a table
	@scripts/install-system-packages openssl nginx-light
	@$(BIN)/python -m pytest -q tests/attacks --attack-rounds $(or $(ROUNDS),5) -k "no_study_out or hold_up_no or before_a_byte or as_ever"

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

manual: setup-dev ## Write deploy/avara-gateway.1, the manual page, from the commands
	@$(BIN)/python scripts/write-manual

conformance: setup-dev ## Write the tables of docs/conformance.md from the code's own lists
	@$(BIN)/python scripts/write-conformance

licences: setup-dev ## Write docs/licences.md from what is installed
	@$(BIN)/python scripts/write-licences

$(TOOLS)/.installed: deploy/locks/tools.lock scripts/make-venv
	@scripts/make-venv $(TOOLS) --require-hashes -r deploy/locks/tools.lock
	@touch "$@"

lock: $(TOOLS)/.installed ## Write the locks again, by the ranges; UPGRADE=1 takes the newest versions that these allow
	@scripts/write-lock $(if $(UPGRADE),--upgrade)

wheel: $(TOOLS)/.installed ## Build dist/*.whl; the same commit gives the same bytes
	@scripts/build-wheel dist

sbom: $(TOOLS)/.installed ## Write dist/avara-gateway.cdx.json: what is in it, as CycloneDX, from what the lock installs
	@scripts/write-sbom dist/avara-gateway.cdx.json

audit: $(TOOLS)/.installed ## Ask which locked packages have known weaknesses; says so where nobody can be asked
	@scripts/audit

dist/wheels/requirements.txt: $(TOOLS)/.installed requirements.lock deploy/locks/build.lock $(shell find gateway deploy -type f ! -name '*.pyc')
	@scripts/collect-wheels dist/wheels

deb: dist/wheels/requirements.txt ## Build dist/*.deb, for the release of Debian or Ubuntu that this machine runs
	@scripts/build-deb dist dist/wheels

bundle: dist/wheels/requirements.txt ## Build dist/*.tar.gz, by which a machine without a network installs
	@scripts/build-bundle dist dist/wheels

test-install: setup-dev deb bundle ## Install as docs/install.md says, each way, in a clean Debian in a folder; needs root, and minutes
	@scripts/install-system-packages debootstrap
	@$(BIN)/python -m pytest tests/install/in_chroot.py $(PYTEST)

test-containers: setup-dev ## Build the image on a clean Debian, bring the compose file up, open a study; needs root, and minutes
	@scripts/install-system-packages buildah debootstrap
	@command -v dockerd >/dev/null || scripts/install-system-packages --optional docker.io
	@docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null \
	    || scripts/install-system-packages --optional docker-compose
	@$(BIN)/python -m pytest tests/install/in_containers.py $(PYTEST)

bench: setup-dev ## Measure; prints a table, writes bench/out/. QUICK=1 is shorter, PARTS="cold warm" less
	@scripts/install-system-packages orthanc dcmtk
	@scripts/install-system-packages --optional chromium
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(PARTS)

clean: ## Remove the virtual environment and what tools left
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache bench/out
