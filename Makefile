# One command in the evening, a better model in the morning. `make` alone prints this list.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
ifndef PROFILE # a GPU whose driver is broken is still a GPU
PROFILE := $(shell command -v nvidia-smi >/dev/null || { echo cpu; exit; }; nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo unknown)
endif
DATA ?= python
export PROFILE

# `make show EXP=3 RUN=nov23` is `autoresearch show 3 --run nov23`: a setting is the option of its name
SETTINGS := EXPERIMENTS HOURS MAX_USD MAX_TOKENS PROPOSER MODEL BASE_URL KEY_FILE REPLAY SEED PREFETCH PARALLEL QUIET_HOURS SCORING \
	EXECUTOR ADDRESS TOKEN_FILE SLOTS NODE_IP \
	LIVE PROFILE DATA RUNTIME ACCEPT_RISK TASK RUN RUNS EXP A B ROLE FORMAT OUT DRY_RUN CHEATS TEST_GPU BASE PYTHON BIN ACCEPT TRUST \
	MINUTES UPSTREAM REHEARSE NO_LEASE DAY KIT KIT_PYTHON LIMIT_MIB IMAGE NULLS NIGHTS NAME ARGS ALL
# what `make bench` runs without a name
BENCH = $(foreach name,prompt idle-share scoring,$(BIN)/python -m benchmarks $(name) $(if $(filter idle-share,$(name)),3) &&) tests/chromium.sh && \
	$(BIN)/python -m benchmarks report
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(SETTINGS) AUTORESEARCH_% ANTHROPIC_% DOCKER_% PIP_% %_proxy SHELL MAKE%,$(GIVEN))
$(if $(UNKNOWN),$(error $(UNKNOWN): no such setting; there are $(SETTINGS)))
ACCEPT_RISK ?= $(ACCEPT)
ifndef SCORING
SCORING := $(TRUST)
endif

CLI := AUTORESEARCH_STARTED_BY=make $(BIN)/autoresearch
# a value is one word of the shell, whatever is in it: `value` leaves $ alone, and ~/ is still the home folder
as_word = $(subst '~/,~/','$(subst ','\'',$(1))')
quote = $(call as_word,$(value $(1)))
options = $(foreach name,$(1),$(if $(value $(name)),--$(shell tr A-Z_ a-z- <<< $(name)) $(call quote,$(name))))
TARGET = $(call options,TASK RUN RUNS)
LIMITS = $(call options,EXPERIMENTS HOURS MAX_USD)
MACHINE = --profile $(call quote,PROFILE) $(foreach risk,$(ACCEPT_RISK),--accept-risk $(call as_word,$(risk)))
CONTAINERS = $(MACHINE) --data $(call quote,DATA)
OWN_DATA = $(if $(filter-out python,$(value DATA)),--data $(call quote,DATA))
WITH_TORCH = $$($(BIN)/python -c 'import torch' 2>/dev/null && echo $(BIN)/python || echo $(PYTHON))

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:
	@sed -nE 's/^##@ /\n/p; s/^([a-z-]+):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

##@ Run

loop: check-limits $(if $(filter ray,$(EXECUTOR)),profile engine setup-ray,check-gpu-runtime setup) ## run experiments: EXPERIMENTS=3 HOURS=8 MAX_USD=10 PROPOSER=claude RUN=tag
	@$(CLI) loop $(CONTAINERS) $(TARGET) $(LIMITS) $(if $(LIVE),--live) $(call options,MAX_TOKENS PROPOSER MODEL BASE_URL \
		KEY_FILE RUNTIME REPLAY SEED QUIET_HOURS PARALLEL PREFETCH SCORING EXECUTOR ADDRESS TOKEN_FILE)

worker: setup-ray engine ## offer this machine's devices to a loop on another one: ADDRESS=10.0.0.1:6379 SLOTS=2
	@$(CLI) worker $(ACCEPT_RISK:%=--accept-risk %) $(OWN_DATA) $(call options,TASK ADDRESS TOKEN_FILE SLOTS NODE_IP)

slurm-script: setup ## a batch script for Slurm, whose job ends its own containers: HOURS=8 RUN=tag > night.sh
	@$(CLI) slurm-script $(CONTAINERS) $(TARGET) $(call options,HOURS PARALLEL)

estimate: check-limits profile setup ## what a night of the LLM would cost; sends nothing
	@$(CLI) estimate --profile $(call quote,PROFILE) $(LIMITS) $(call options,TASK MODEL)

doctor: setup ## is this machine fit and safe; ACCEPT_RISK=name runs a loop despite a finding
	@$(CLI) doctor $(call options,TASK)

build-cache: preflight prepare-data ## compile your committed train.py, for every experiment to start from
pause: setup ## start no further experiment, give the device back
resume: setup ## resume a paused run

##@ Look

status: setup ## what was tried and what is best: ALL=1
watch: setup ## attach the live view to a running loop; q detaches
show: require-exp setup ## what an experiment changed, ran and printed: EXP=3
report: setup ## one HTML file to look at a run, and to show it to others: RUN=tag
lineage: setup ## the kept experiments, and which was made from which

diff: require-ab setup ## how two experiments differ: A=1 B=2
	@$(CLI) diff $(call quote,A) $(call quote,B) $(TARGET)

logs: require-exp setup ## what an experiment printed: EXP=3 ROLE=trainer
	@$(CLI) logs $(call quote,EXP) $(TARGET) $(call options,ROLE)

lessons: setup ## what the runs of this task taught: runs/lessons.md, shown in every prompt; edit it as you like
	@$(CLI) lessons $(TARGET)

runs: setup ## the recorded runs
	@$(CLI) runs $(call options,TASK RUNS)

compare: require-tags setup ## two runs side by side, printed and plotted: A=tag B=tag
	@$(CLI) compare $(call quote,A) $(call quote,B) $(call options,TASK RUNS)

export: setup ## a run for other tools: FORMAT=csv OUT=file; the checkpoint of a kept experiment: EXP=3
	@$(CLI) export $(if $(value EXP),$(call quote,EXP)) $(TARGET) $(call options,FORMAT OUT)

prune: setup ## remove old logs and checkpoints, as [retention] in task.toml says: DRY_RUN=1
	@$(CLI) prune $(TARGET) $(if $(DRY_RUN),--dry-run)

##@ Trust

verify: setup ## is the record intact
provenance: require-exp setup ## the provenance of a kept experiment, as an in-toto statement: EXP=3

confirm: require-exp preflight prepare-data ## retrain a kept experiment with other seeds, score it on the holdout: EXP=3
	@$(CLI) confirm $(call quote,EXP) $(CONTAINERS) $(TARGET)

claim: require-exp preflight prepare-data ## duel a kept experiment with the baseline in pairs of new trials, for the gain with its interval: EXP=3
	@$(CLI) claim $(call quote,EXP) $(CONTAINERS) $(TARGET)

calibrate: preflight prepare-data ## measure how far honest models' answers differ on this hardware
	@$(CLI) calibrate $(CONTAINERS) $(call options,TASK RUNS)

status:
	@$(CLI) status $(TARGET) $(if $(ALL),--all)

pause resume watch report lineage verify:
	@$(CLI) $@ $(TARGET)

show provenance:
	@$(CLI) $@ $(call quote,EXP) $(TARGET)

build-cache:
	@$(CLI) $@ $(CONTAINERS) $(call options,TASK)

prepare-data:
	@$(CLI) $@ $(CONTAINERS) $(TARGET)

##@ Prepare (every command does what it needs of these)

setup: .venv/ready ## the virtual environment, from hash-pinned requirements
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { echo "setup: needs Python 3.11 or newer with venv; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: making .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt 2> >(grep -v WARNING >&2)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup-ray: .venv/ready-ray ## Ray, for loops on several machines
.venv/ready-ray: .venv/ready requirements-ray.txt
	@echo "setup: Ray"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-ray.txt 2> >(grep -v WARNING >&2)
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	@echo "setup: tools for tests and checks"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt 2> >(grep -v WARNING >&2)
	@touch $@

profile:
	@[ $(call quote,PROFILE) != unknown ] || { echo "PROFILE: nvidia-smi is here, but fails: $$(nvidia-smi -L 2>&1 | head -n 1); fix the driver (after its update a reboot is due), or say PROFILE=gpu or PROFILE=cpu" >&2; exit 1; }

require-exp:
	@[[ $(call quote,EXP) =~ ^[0-9]+$$ ]] || { echo "EXP=3 says which experiment; make status lists them" >&2; exit 1; }

require-ab:
	@[[ $(call quote,A),$(call quote,B) =~ ^[0-9]+,[0-9]+$$ ]] || { echo "A=1 B=2 says which two experiments; make status lists them" >&2; exit 1; }

require-tags:
	@[ $(call quote,A) ] && [ $(call quote,B) ] || { echo "A=tag B=tag says which two runs; make runs lists them" >&2; exit 1; }

check-limits:
	@[[ $(call quote,EXPERIMENTS) =~ ^[0-9]*$$ ]] || { echo "EXPERIMENTS=3: a whole number; 0: no limit" >&2; exit 1; }

check-gpu-runtime: profile engine
	@[ $(call quote,PROFILE) != gpu ] || $(PYTHON) -m orchestrator.walls.nvidia

engine: ## a container engine that answers
	@sandbox/engine.sh

preflight: check-gpu-runtime setup ## can experiments of this profile run here
	@$(CLI) preflight --machine-only $(MACHINE) $(call options,TASK RUNTIME PARALLEL)

image: profile engine setup ## the image of every experiment
	@$(CLI) build-image --profile $(call quote,PROFILE)

prepare-data: setup image ## the prepared data: DATA=python, or a folder

clean: ## remove what was built; records in runs/ stay
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

# earlier names
attest: provenance
cost: estimate
data: prepare-data
fit: preflight
gc: prune
log: logs
warm: build-cache

##@ Develop

check: .venv/ready-dev ## format, lint, types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

test: .venv/ready-dev .venv/ready-ray image prepare-data ## every test, against the real engine
	@tests/chromium.sh
	@tests/podman.sh
	@tests/runsc.sh
	@tests/litellm.sh
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not engine and not idle"
	@$(BIN)/python -m pytest -q -m "engine or idle"

test-gpu: ## the real GPU check: a lease, five minutes of training, a score; fails where there is no GPU: TEST_GPU="--small-audit"
	@! docker image inspect autoresearch-sandbox:gpu >/dev/null 2>&1 || $(MAKE) -s setup
	@$(WITH_TORCH) -m gpu_day.check $(TEST_GPU)

gpu-day: ## what the product is worth on this GPU, within MINUTES=25; resumes after a cut: UPSTREAM=folder REHEARSE=1
	@$(if $(REHEARSE),$(MAKE) -s image prepare-data PROFILE=cpu)
	@$(if $(REHEARSE),$(BIN)/python -m gpu_day.rehearsal $(call options,MINUTES IMAGE),set -o pipefail; exec 2>&1; mkdir -p build; \
		$(WITH_TORCH) -m gpu_day $(call options,MINUTES UPSTREAM DAY) $(OWN_DATA) $(if $(NO_LEASE),--no-lease) | tee -a build/gpu-day.log)

gpu-kit: setup ## what a bare machine with a GPU needs for gpu-day, in one file: UPSTREAM=folder KIT_PYTHON=3.12 LIMIT_MIB=60
	@$(if $(OWN_DATA),,$(MAKE) -s image PROFILE=cpu)
	@$(BIN)/python -m gpu_day.kit $(call options,UPSTREAM KIT KIT_PYTHON LIMIT_MIB) $(OWN_DATA)

gpu-report: setup ## what gpu-day measured, into docs/performance.md and task.toml: DAY=folder
	@$(BIN)/python -m gpu_day.report $(call options,DAY)

test-tiers: .venv/ready-dev image prepare-data ## the contract and the attacks on gVisor and on rootless Podman, in engines of their own
	@tests/runsc.sh
	@tests/podman.sh
	@$(BIN)/python -m attacks.walls.gvisor
	@$(BIN)/python -m attacks.walls.rootless

test-slurm: .venv/ready-dev image prepare-data ## jobs of a real Slurm are cancelled, requeued and timed out: none leaves a container
	@tests/slurm.sh
	@$(BIN)/python -m tests.soak.slurm_jobs

test-models: .venv/ready-dev image prepare-data ## the loop with every model of the table against an emulator of the API: bills to the cent: MODEL=name
	@$(BIN)/python -m tests.soak.every_model $(call options,MODEL)

probes: .venv/ready-dev image prepare-data ## attack the walls, each attack with a control: RUNTIME=runsc
	@$(BIN)/python -m attacks.walls $(call options,RUNTIME)

cheats: .venv/ready image prepare-data ## every known cheat and honest model through the real containers: none believed, none refused: CHEATS=name
	@$(BIN)/python -m attacks.scores $(CHEATS)

##@ Measure

bench: .venv/ready-dev $(if $(filter list ?,$(NAME)),,image prepare-data) ## NAME=growth: one benchmark (NAME=?: all names); without NAME the four of a long run; ARGS
	@$(if $(NAME),$(BIN)/python -m benchmarks $(call quote,NAME) $(ARGS),$(BENCH))

bench-report: .venv/ready-dev ## what benchmarks printed, into docs/performance.md
	@$(BIN)/python -m benchmarks.report

keep-rules: setup ## which rule of keeping makes most of a night: thousands of simulated ones, NIGHTS=300 a scenario
	@$(BIN)/python -m benchmarks.keep_rules $(NIGHTS)

bench-cluster: .venv/ready-dev .venv/ready-ray ## a cluster of 8 slots against one slot, and what the way to another host costs
	@$(BIN)/python -m benchmarks.ray_slots

overhead: .venv/ready-dev image prepare-data ## what the walls cost a training, in per cent
	@$(BIN)/python -m benchmarks.overhead --profile $(call quote,PROFILE)

aa: .venv/ready-dev image prepare-data ## what the loop keeps of patches that change nothing, and of planted gains, alone and beside others: NULLS=30
	@$(BIN)/python -m tests.soak.aa $(call options,NULLS)

flood: .venv/ready-dev image ## stress test: 10 GB of output, 1 GB lines, a million files
	@$(BIN)/python -m tests.soak.flood

kill-storm: .venv/ready-dev image prepare-data ## kill -9 a loop at random moments: nothing outlives its deadline, nothing stays open
	@$(BIN)/python -m tests.soak.kill_storm $(call options,PARALLEL)

ray-storm: .venv/ready-dev .venv/ready-ray image prepare-data ## workers, raylets, the head and the engine of a Ray cluster are killed: MINUTES=15
	@$(BIN)/python -m tests.soak.ray_storm $(call options,MINUTES)

lease-storm: .venv/ready-dev ## loops of two users fight for fake GPUs and are killed: none shared, none leaked
	@$(BIN)/python -m tests.soak.lease_storm
