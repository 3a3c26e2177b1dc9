# `make help` says what there is. Debian 12; install, test, demo and bench as root.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
SEEDS ?= 1000
RUNS ?= 10
FAMILY ?= 4,6
ONLY ?=
PYTEST_ARGS ?=
BENCH ?=
FROM ?=
BENCH_ARGS ?=
VMLAB_ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed objects ## system packages, .venv with the commands in it, eBPF objects

build/packages: scripts/packages
	@scripts/packages
	@mkdir -p $(@D) && touch $@

$(VENV)/bin/pip: | build/packages
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml build/packages | $(VENV)/bin/pip
	@$(RUN)/pip install --quiet --editable '.[dev]'
	@touch $@

objects: build/packages
	@$(MAKE) --silent --no-print-directory -C bpf

test: install ## all tests; the end-to-end tests need root
	@$(RUN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

build/packages-daily: scripts/packages-daily
	@scripts/packages-daily
	@mkdir -p $(@D) && touch $@

daily: install build/packages-daily ## page, terminal and Ansible, end to end: what a sysadmin uses every day
	@$(RUN)/pytest $(PYTEST_ARGS) tests/daily

lint: $(VENV)/installed ## ruff, mypy --strict, and the house rules
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy --strict
	@$(RUN)/pytest -q tests/unit/test_tidy.py

simulate: $(VENV)/installed ## simulated clusters under faults: make simulate SEEDS=10000
	@$(RUN)/python -m tests.sim --seeds $(SEEDS)

docs: $(VENV)/installed ## the configuration reference, from the grammar
	@$(RUN)/python -m dvipad.pages reference docs

man: $(VENV)/installed ## man pages in build/man
	@$(RUN)/python -m dvipad.pages man build/man

completion: $(VENV)/installed ## completion for bash, zsh and fish in build/completion
	@$(RUN)/python -m dvipad.pages completion build/completion

demo: ## a cluster on this machine: traffic, a power cut, takeover, takeback
	@$(MAKE) --no-print-directory install || { echo 'demo: FAILED make install'; exit 1; }
	@$(RUN)/python -m dvipad.lab.demo

bench: ## against keepalived, HAProxy, nft, plain routing: make bench [BENCH=takeover]
	@$(MAKE) --no-print-directory install >&2
	@$(RUN)/python -m bench $(BENCH) $(BENCH_ARGS)

chaos: install ## every fault under traffic: make chaos [RUNS=10] [FAMILY=4,6] [ONLY=power-cut]
	@$(RUN)/python -m tests.chaos --runs $(RUNS) --family $(FAMILY) --only '$(ONLY)'

alerts: install ## every alert by its cause, every panel, with a real Prometheus: 3 minutes
	@DVIPAD_ALERTS=1 $(RUN)/pytest tests/alerts $(PYTEST_ARGS)

upgrade: install ## an older version's cluster gets this one, node by node, under load: make upgrade FROM=COMMIT
	@$(RUN)/python -m tests.upgrade $(FROM)

build/packages-vm: scripts/packages-vm
	@scripts/packages-vm
	@mkdir -p $(@D) && touch $@

vmlab: install build/packages-vm ## end-to-end tests on a stock Debian kernel, emulated
	@nice $(RUN)/python -m dvipad.vmlab $(VMLAB_ARGS)

machines: install build/packages-vm deb ## three emulated machines with systemd, by the README, from the .deb
	@nice $(RUN)/pytest -q -s tests/machines

build/packages-vagrant: scripts/packages-vagrant
	@scripts/packages-vagrant
	@mkdir -p $(@D) && touch $@

vagrant: install build/packages-vm build/packages-vagrant deb ## vagrant up, a check, destroy; emulated: make vagrant [TARGETS=1]
	@nice $(RUN)/python -m dvipad.vmlab.vagrant

wheel: build/packages ## build/dist/dvipad-*.whl, with the eBPF objects in it
	@$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir build/dist .

deb: man completion build/packages-deb ## build/dist/dvipad_*.deb
	@scripts/deb

build/packages-deb: scripts/packages-deb
	@scripts/packages-deb
	@mkdir -p $(@D) && touch $@

package-test: install build/packages-deb ## the .deb on a fresh Debian: install, use, purge
	@$(RUN)/pytest -q tests/package

clean: ## remove everything that was built
	rm -rf build $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install objects test daily lint docs man completion simulate demo bench chaos upgrade alerts vmlab machines vagrant wheel deb \
	package-test clean
