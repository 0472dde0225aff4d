# One command in the evening, a better model in the morning. `make` alone prints this list.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
ifndef PROFILE # a GPU server whose driver is broken is not one without a GPU
PROFILE := $(shell command -v nvidia-smi >/dev/null || { echo cpu; exit; }; nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo unknown)
endif
DATA ?= python
export PROFILE

# what is given on the command line has one of these names; the environment may hold anything
SETTINGS := EXPERIMENTS HOURS MAX_USD MAX_TOKENS PROPOSER MODEL BASE_URL KEY_FILE REPLAY SEED PREFETCH PARALLEL QUIET_HOURS TRUST \
	LIVE PROFILE DATA RUNTIME ACCEPT TASK RUN RUNS EXP A B ROLE FORMAT OUT DRY_RUN CHEATS TEST_GPU BASE PYTHON BIN
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
STRANGE := $(filter-out $(SETTINGS) AUTORESEARCH_% ANTHROPIC_% DOCKER_% PIP_% %_proxy SHELL MAKE%,$(GIVEN))
$(if $(STRANGE),$(error $(STRANGE): no such setting; there are $(SETTINGS)))

# only what was given on the command line or in the environment becomes a flag
flag = $(if $($(1)),--$(2) $($(1)))
PLACE = $(call flag,TASK,task) $(call flag,RUN,run) $(call flag,RUNS,runs)
LIMITS = $(call flag,EXPERIMENTS,experiments) $(call flag,HOURS,hours) $(call flag,MAX_USD,max-usd) $(call flag,MAX_TOKENS,max-tokens)
HOW = $(call flag,PROPOSER,proposer) $(call flag,MODEL,model) $(call flag,BASE_URL,base-url) $(call flag,KEY_FILE,key-file) \
	$(call flag,RUNTIME,runtime) $(call flag,REPLAY,replay) $(call flag,SEED,seed) \
	$(call flag,QUIET_HOURS,quiet-hours) $(call flag,PARALLEL,parallel) $(call flag,PREFETCH,prefetch) $(call flag,TRUST,trust)
UNSAFE = $(foreach name,$(ACCEPT),--accept $(name))

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:
	@sed -nE 's/^##@ /\n/p; s/^([a-z-]+):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

##@ Run

loop: limits fit data ## run experiments: EXPERIMENTS=3 HOURS=8 MAX_USD=10 PROPOSER=claude RUN=tag
	@$(BIN)/autoresearch loop --data $(DATA) --profile $(PROFILE) $(UNSAFE) $(PLACE) $(LIMITS) $(HOW) $(if $(LIVE),--live)

cost: limits profile setup ## what a night of the LLM would cost; sends nothing
	@$(BIN)/autoresearch loop --dry-run $(call flag,TASK,task) --profile $(PROFILE) $(LIMITS) $(HOW)

warm: fit data ## compile your committed train.py anew, for every experiment to begin with
	@$(BIN)/autoresearch warm --data $(DATA) --profile $(PROFILE) $(UNSAFE)

pause: setup ## start no further experiment, give the device back
	@$(BIN)/autoresearch pause $(PLACE)

resume: setup ## let a paused run go on
	@$(BIN)/autoresearch resume $(PLACE)

doctor: setup ## is this machine fit and safe for it; ACCEPT=name lets a loop run nevertheless
	@$(BIN)/autoresearch doctor

##@ Look

status: setup ## what was tried and what is best
	@$(BIN)/autoresearch status $(PLACE)

watch: setup ## attach the live view to a running loop; q detaches
	@$(BIN)/autoresearch watch $(PLACE)

show: exp setup ## what an experiment changed, ran and printed: EXP=3
	@$(BIN)/autoresearch show $(EXP) $(PLACE)

diff: two setup ## how two experiments differ: A=1 B=2
	@$(BIN)/autoresearch diff $(A) $(B) $(PLACE)

log: exp setup ## what an experiment printed: EXP=3 ROLE=trainer
	@$(BIN)/autoresearch log $(EXP) $(PLACE) $(call flag,ROLE,role)

lineage: setup ## what was kept, and what it was made from
	@$(BIN)/autoresearch lineage $(PLACE)

runs: setup ## the runs on record
	@$(BIN)/autoresearch runs $(call flag,TASK,task) $(call flag,RUNS,runs)

report: setup ## one HTML file to look at a run, and to show it to others: RUN=tag
	@$(BIN)/autoresearch report $(PLACE)

compare: tags setup ## two runs side by side, printed and plotted: A=tag B=tag
	@$(BIN)/autoresearch compare $(A) $(B) $(call flag,TASK,task) $(call flag,RUNS,runs)

export: setup ## a run for other tools: FORMAT=csv OUT=file; the checkpoint of a kept one: EXP=3
	@$(BIN)/autoresearch export $(EXP) $(PLACE) $(call flag,FORMAT,format) $(call flag,OUT,out)

gc: setup ## remove old logs and checkpoints, as [retention] in task.toml says: DRY_RUN=1
	@$(BIN)/autoresearch gc $(PLACE) $(if $(DRY_RUN),--dry-run)

##@ Trust

verify: setup ## is the record intact
	@$(BIN)/autoresearch verify $(PLACE)

confirm: exp fit data ## retrain a kept experiment with other seeds, score it on the holdout: EXP=3
	@$(BIN)/autoresearch confirm $(EXP) --data $(DATA) --profile $(PROFILE) $(UNSAFE) $(PLACE)

calibrate: fit data ## measure what honest models' answers differ by on this hardware
	@$(BIN)/autoresearch calibrate --data $(DATA) --profile $(PROFILE) $(UNSAFE) $(call flag,RUNS,runs)

attest: exp setup ## what a kept experiment was made from, as an in-toto statement: EXP=3
	@$(BIN)/autoresearch attest $(EXP) $(PLACE)

##@ Prepare (every command does what it needs of these)

setup: .venv/ready ## the virtual environment, from hash-pinned requirements
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { echo "setup: needs Python 3.11 or newer with venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: making .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt 2> >(grep -v WARNING >&2)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	@echo "setup: tools for tests and checks"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt 2> >(grep -v WARNING >&2)
	@touch $@

profile:
	@[ "$(PROFILE)" != unknown ] || { echo "PROFILE: nvidia-smi is here, but fails: $$(nvidia-smi -L 2>&1 | head -n 1); fix the driver (after its update a reboot is due), or say PROFILE=gpu or PROFILE=cpu" >&2; exit 1; }

exp:
	@[[ "$(EXP)" =~ ^[0-9]+$$ ]] || { echo "EXP=3 says which experiment; make status lists them" >&2; exit 1; }

two:
	@[[ "$(A),$(B)" =~ ^[0-9]+,[0-9]+$$ ]] || { echo "A=1 B=2 says which two experiments; make status lists them" >&2; exit 1; }

tags:
	@[ "$(A)" ] && [ "$(B)" ] || { echo "A=tag B=tag says which two runs; make runs lists them" >&2; exit 1; }

limits:
	@[[ "$(EXPERIMENTS)" =~ ^[0-9]*$$ ]] || { echo "EXPERIMENTS=3: a whole number; 0: no limit" >&2; exit 1; }

handed-out: profile engine
	@[ "$(PROFILE)" != gpu ] || $(PYTHON) -m orchestrator.walls.nvidia

engine: ## a container engine that answers
	@sandbox/engine.sh

fit: handed-out setup
	@[ "$(PROFILE)" != gpu ] || $(BIN)/autoresearch fit --profile $(PROFILE) $(UNSAFE) $(call flag,TASK,task) $(call flag,RUNTIME,runtime) $(call flag,PARALLEL,parallel)

image: profile engine ## the image of every experiment
	@sandbox/image.sh

data: setup image ## the prepared data: DATA=python, or a folder
	@$(BIN)/autoresearch data $(call flag,TASK,task) --data $(DATA) --profile $(PROFILE) $(UNSAFE)

clean: ## remove what was built; records in runs/ stay
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

##@ Develop

check: .venv/ready-dev ## format, lint, types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

test: .venv/ready-dev image data ## every test, against the real engine
	@tests/chromium.sh
	@tests/podman.sh
	@tests/runsc.sh
	@$(BIN)/python -m pytest -q

test-gpu: ## the real GPU check: a lease, five minutes of training, a score; fails where there is no GPU: TEST_GPU="--small-audit"
	@! docker image inspect autoresearch-sandbox:gpu >/dev/null 2>&1 || $(MAKE) -s setup
	@$$($(BIN)/python -c 'import torch' 2>/dev/null && echo $(BIN)/python || echo python3) -m benchmarks.gpu $(TEST_GPU)

test-tiers: .venv/ready-dev image data ## the same contract and attacks on gVisor and on rootless Podman, in engines of their own
	@tests/runsc.sh
	@tests/podman.sh
	@$(BIN)/python -m attacks.walls.gvisor
	@$(BIN)/python -m attacks.walls.rootless

probes: .venv/ready-dev image data ## attack the walls, each attack with a control: RUNTIME=runsc
	@$(BIN)/python -m attacks.walls $(call flag,RUNTIME,runtime)

cheats: .venv/ready image data ## every cheat and honest control we know, through the real containers: none believed, none refused: CHEATS=name
	@$(BIN)/python -m attacks.scores $(CHEATS)

##@ Measure

bench: .venv/ready-dev image data ## what a prompt costs in a long run, how long the slot stands idle, how fast a report opens, what the scorer takes
	@$(BIN)/python -m benchmarks.prompt_growth
	@$(BIN)/python -m benchmarks.idle_share
	@$(BIN)/python -m benchmarks.scorer_cost
	@tests/chromium.sh && $(BIN)/python -m benchmarks.report_open

overhead: .venv/ready-dev image data ## what the walls cost a training, in per cent
	@$(BIN)/python -m benchmarks.overhead --profile $(PROFILE)

flood: .venv/ready-dev image ## an experiment prints 10 GB, a line of 1 GB and single bytes, and leaves a million files
	@$(BIN)/python -m tests.soak.flood

kill-storm: .venv/ready-dev image data ## kill -9 a loop at random moments: nothing outlives its deadline, nothing stays open
	@$(BIN)/python -m tests.soak.kill_storm $(call flag,PARALLEL,parallel)

lease-storm: .venv/ready-dev ## loops of two users fight for fake GPUs and are killed: none shared, none leaked
	@$(BIN)/python -m tests.soak.lease_storm
