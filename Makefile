# Two commands do everything: `make run` and `make test`. Each sets up what it needs.
SHELL := /bin/bash
VENV ?= $(CURDIR)/.venv
BUILDER ?= $(CURDIR)/build/builder
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_FORCE_COLOR ?= $(if $(MAKE_TERMOUT),1,0)

.PHONY: help run test setup azure lab lab-down lint unit integration node-tests bench collection sanity image-context image-check docs clean

help:
	@echo "make run          set up, bring up the three-node lab, run site.yml, write results/<run id>/report.html"
	@echo "make test         set up, lint, ansible-test on the collection, unit tests with cases and fuzz, integration tests in a lab of their own"
	@echo "make lab          bring the lab up only          make lab-down    take it down, leave nothing behind"
	@echo "make node-tests   testinfra assertions on the lab's nodes"
	@echo "make bench        the report of 1,000 synthetic nodes; validate against parallel-ssh on the lab, or on INVENTORY=...; FAULTS=1: three bad nodes;"
	@echo "                  SYNC=<nodes>: the model to so many, by method  (docs/performance.md)"
	@echo "make azure        the Azure SDK for inventory/azure, into the same environment  (docs/azure.md)"
	@echo "make collection   build plumbline.cluster into build/collection; make sanity: ansible-test on it  (docs/collection.md)"
	@echo "make image-context  what ansible-builder builds an execution environment from, in build/image; make image-check: the same set, tried in an empty environment"
	@echo "make docs         the documentation's site, with a page for each module and role, in build/site"
	@echo "make lint | unit | integration                   parts of make test"

run: lab
	ansible-playbook site.yml

test: lint sanity unit integration

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/setup.sh scripts/bootstrap.sh
	scripts/setup.sh $(VENV)

azure: setup
	python -m pip install --quiet --disable-pip-version-check --constraint constraints-azure.txt --editable '.[azure]'

lab: setup
	ansible-playbook playbooks/lab_up.yml -e lab_gpus=none

lab-down: setup
	ansible-playbook playbooks/lab_down.yml

lint: setup
	ruff check .
	ruff format --check .
	PYTHONPATH=plugins/module_utils lint-imports --no-logo
	ansible-lint --profile production --offline --strict

unit: setup
	-@VENV=$(VENV) tests/fuzz/python39.sh --get > /dev/null
	python -m pytest tests/unit tests/cases tests/fuzz

integration: setup
	python -m pytest tests/integration

node-tests: setup
	python -m pytest tests/node --hosts=ansible://nodes --ansible-inventory=inventory/lab

bench: setup
ifdef SYNC
	python tests/bench/sync.py $(or $(INVENTORY),inventory/lab) --nodes $(SYNC) $(if $(RATE_MBPS),--rate $(RATE_MBPS))
else
	python tests/bench/page.py
	python tests/bench/validate.py $(or $(INVENTORY),inventory/lab) $(if $(FAULTS),--faults)
endif

collection: setup
	PYTHONPATH=tools python -m plumbline_collection build/collection

sanity: collection
	tools/sanity.sh build/collection --skip-test import

image-context: collection
	$(BUILDER)/bin/ansible-builder --version > /dev/null 2>&1 || { python -m venv $(BUILDER) && $(BUILDER)/bin/pip install --quiet ansible-builder==3.2.0; }
	$(BUILDER)/bin/ansible-builder create --file execution-environment.yml --context build/image

image-check: image-context
	python tools/image/check.py build/image-check

docs: setup
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	python scripts/docs_site.py build/docs
	python -m mkdocs build --strict

clean: lab-down
	rm -rf $(VENV) results build
