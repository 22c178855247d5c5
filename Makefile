# Every target sets itself up on a fresh machine with Python 3.11 (python3-venv), git and make.
#   make test TESTS="tests/metrics -k psnr"     a part of the tests
#   make test CORES=1                            fewer processes
#   make acceptance CLIP=clip.mp4                the acceptance run on a clip of your own

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
EXTRAS ?= dev
STAMP := $(VENV)/.framecast-ready
CORES ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
TESTS ?=
READ_TRAIN_PREDICT := tests/media/test_video.py tests/data/readers/test_videos.py tests/inference/test_predict.py \
  tests/cli/test_cli.py
OLDEST_EXTRAS := atari,digits,env,export,flow,hdf5,lerobot,mujoco,web,test
OLDEST_TESTS := $(READ_TRAIN_PREDICT) tests/inference/test_envs.py tests/inference/test_onnx_export.py
# Tests that skip themselves by name without an extra outside [dev]; the acceptance run has these extras.
OUTSIDE_DEV := tests/benchmark/test_cluster.py tests/training/test_trackers.py tests/test_examples.py
CLIP ?=
RECORD ?=
CASES ?= 10000
KILLS ?= 100
SEED ?= 0
# Two torch threads beside another busy process can be a hundred times slower than one: one thread a worker.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# Compiled tests are kept, whatever the environment asks for: compiling them takes every worker seven seconds.
KEEP_COMPILED := PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help setup setup-system demo test test-gpu test-python test-oldest package docs check format lint types bench acceptance fuzz torture clean

help:
	@echo "make demo          from nothing to a forecast: records a game, trains a minute, writes film and report"
	@echo "make test          all tests (TESTS=... for a part of them)"
	@echo "make test-gpu      the tests that need a CUDA device: contracts, resuming, precision, roll-outs"
	@echo "make test-python   reading, training and prediction with PYTHON=python3.12, and with python3.13 where there is one"
	@echo "make test-oldest   the same, environments and graphs with the oldest versions that pyproject.toml admits"
	@echo "make package       wheel and source archive in dist/, checked"
	@echo "make docs          the documentation as a site in build/site; a warning or a dead link is an error"
	@echo "make check         formatting, lint, types and all tests"
	@echo "make format        put the code into its format"
	@echo "make bench         how fast this machine trains, loads, predicts and scores"
	@echo "make acceptance    the long runs behind docs/results (CLIP=FILE for a clip of your own)"
	@echo "make fuzz          changed files and messages for every reader (CASES=10000 SEED=0)"
	@echo "make torture       kills, full disks, two writers, a changed clock (KILLS=100 SEED=0)"
	@echo "make setup         only make $(VENV)"
	@echo "make setup-system  Chromium for the pages and OSMesa for the physics scenes, where apt can"
	@echo "make clean         remove $(VENV) and what tools left behind; runs stay"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "framecast needs Python 3.11 or newer; name one: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.11"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "no virtual environment could be made; on Debian: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@command -v npm >/dev/null && $(PY) -m framecast.web.runtime \
	  || echo "onnxruntime-web: not fetched; tests of the page without a server are skipped"
	@touch $@

# Without root or apt it says what to install and goes on: the tests that need it skip themselves by name.
# Chromium draws the pages; OSMesa draws the physics scenes where there is no display.
setup-system:
	@missing=""; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing="chromium"; \
	ldconfig -p 2>/dev/null | grep -q 'libOSMesa\.so' || missing="$$missing libosmesa6"; \
	if [ -z "$$missing" ]; then \
	  echo "system packages: all there"; \
	elif ! command -v apt-get >/dev/null; then \
	  echo "system packages: please install Chromium and OSMesa; tests that need a missing one are skipped"; \
	else \
	  asroot=""; if [ "$$(id -u)" != 0 ]; then asroot="sudo -n"; fi; \
	  { $$asroot apt-get update -qq; \
	    $$asroot env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } \
	  && echo "system packages: installed $$missing" \
	  || echo "system packages: could not be installed; try: sudo apt-get install $$missing"; \
	fi

demo: setup
	$(PY) -m framecast demo

test: setup
	$(ONE_THREAD) $(KEEP_COMPILED) $(PY) -m pytest -n $(CORES) --dist loadscope $(TESTS)

# Each of these tests has a part without a GPU, which `make test` runs.
test-gpu: setup
	@$(PY) -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "test-gpu: torch finds no CUDA device")'
	$(PY) -m pytest -m gpu $(TESTS)

# Newer interpreters have other wheels of PyAV and torch. Each gets an environment of its own, beside $(VENV).
test-python:
	@$(PYTHON) -c '' 2>/dev/null \
	  || { echo "the interpreter $(PYTHON) is missing; install it or name another: make test-python PYTHON=python3.12"; exit 1; }
	@for python in $(PYTHON) $(filter-out $(PYTHON),python3.13); do \
	  $$python -c '' 2>/dev/null || { echo "the interpreter $$python is missing, so it is left out"; continue; }; \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  $(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$version" EXTRAS=test TESTS="$(READ_TRAIN_PREDICT)" || exit 1; \
	done

# The oldest versions that pyproject.toml admits; torch of that age comes with its GPU libraries (several GB).
test-oldest:
	@$(PYTHON) -c 'import re, tomllib; \
	  project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	  extras = project["optional-dependencies"]; \
	  wanted = [*project["dependencies"], *(w for n in "$(OLDEST_EXTRAS)".split(",") for w in extras[n])]; \
	  print(*(re.sub(r">=([^,]+).*", r"==\1", w) for w in wanted), sep="\n")' > .venv-oldest.txt
	@test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check -c .venv-oldest.txt -e ".[$(OLDEST_EXTRAS)]"
	$(ONE_THREAD) .venv-oldest/bin/python -m pytest -n $(CORES) --dist loadscope $(or $(TESTS),$(OLDEST_TESTS))

# Wheel and source archive; the check reads their metadata as a package index would.
package: setup
	$(PY) -m pip install --quiet --disable-pip-version-check build twine
	rm -rf dist
	$(PY) -m build
	$(PY) -m twine check --strict dist/*

docs:
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check "mkdocs-material>=9.6,<10" "mkdocstrings[python]>=0.29,<2"
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --site-dir build/site

check: lint types test

format: setup
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lint: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: setup
	$(PY) -m mypy --strict -p framecast

bench: setup
	$(PY) -m benchmarks

acceptance: setup
	$(if $(CLIP),,FRAMECAST_EXAMPLES=500 $(ONE_THREAD) $(PY) -m pytest -q tests/media/test_properties.py)
	$(PY) -m reproduction.multiscale_gan $(if $(CLIP),--clip "$(CLIP)")
	$(PY) -m reproduction.dreams $(if $(CLIP),--clip "$(CLIP)")
	$(PY) -m reproduction.visual_dynamics $(if $(CLIP),--clip "$(CLIP)")
	$(if $(CLIP),,$(PY) -m reproduction.compare)
	$(if $(CLIP),,$(PY) -m reproduction.hierarchical)
	$(if $(CLIP),,$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[agents]")
	$(if $(CLIP),,$(PY) -m reproduction.worlds)
	$(if $(CLIP),,$(PY) -m reproduction.worlds_ablation)
	$(if $(CLIP),,$(PY) -m reproduction.agent)
	$(if $(CLIP),,$(PY) -m reproduction.anomaly)
	$(if $(CLIP),,$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cluster,mlflow,trackio,wandb]")
	$(if $(CLIP),,$(ONE_THREAD) $(PY) -m pytest -q $(OUTSIDE_DEV))
	$(PY) -m reproduction.benchmark $(if $(CLIP),--sets --clip "$(CLIP)")
	$(if $(CLIP),,$(PY) -m reproduction.autoencoders)

fuzz: setup
	$(ONE_THREAD) $(PY) tests/fuzz/fuzzing.py --cases $(CASES) --seed $(SEED) $(if $(RECORD),--record)

torture: setup
	$(ONE_THREAD) $(PY) tests/fuzz/torture.py --kills $(KILLS) --seed $(SEED) $(if $(RECORD),--record)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
