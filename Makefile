# `make reproduce` and `make test` need Python 3.11 or newer with pip and venv, nothing else.
# Variables:
#   PYTHON           the Python that makes the environment; default: python3.11, else python3
#   TORCH_INDEX_URL  an extra package index to look for torch in; default: none. On Linux the standard torch is a CUDA
#                    build, about 3 GB more to download; the address of PyTorch's own index of CPU builds avoids that.
#   RESULTS          where `make reproduce` writes what it measures; default: results/yours, which git ignores.
#                    `make reproduce RESULTS=results` refreshes the records that the project ships.

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
TORCH_INDEX_URL ?=
RESULTS ?= results/yours

BIN := .venv/bin
PIP_INSTALL = -m pip --disable-pip-version-check install -qq $(if $(TORCH_INDEX_URL),--extra-index-url '$(TORCH_INDEX_URL)')

define require_python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'error: "$(PYTHON)" is not Python 3.11 or newer; name one that is: make PYTHON=/path/to/python3.11' >&2; exit 2; }
endef

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1: \2/p' Makefile

reproduce: .venv/.stamp  ## train, evaluate, write the report, and compare: paper, shipped, yours
	@$(MAKE) --no-print-directory -j2 swiss_roll binary_heartbeat
	@$(MAKE) --no-print-directory swiss_roll_quasi_newton
	@$(MAKE) --no-print-directory dead_leaves textures
	@if $(BIN)/python experiments/download.py mnist --check; then $(MAKE) --no-print-directory mnist; fi
	@if $(BIN)/python experiments/download.py cifar10 --check; then $(MAKE) --no-print-directory cifar10; fi
	$(BIN)/python experiments/report.py

swiss_roll binary_heartbeat: .venv/.stamp  # seed 0 is trained here, the other rolls are evaluated from their shipped weights
	$(BIN)/python experiments/train.py experiment=sohl_dickstein_2015/$@ seed=0
	$(BIN)/python experiments/evaluate.py -m results=$(RESULTS) experiment=sohl_dickstein_2015/$@ seed=$(SEEDS)

swiss_roll_quasi_newton: .venv/.stamp  # the published network under the better optimiser, from its shipped weights
	$(BIN)/python experiments/evaluate.py -m results=$(RESULTS) experiment=sohl_dickstein_2015/$@ seed=0,1,2,3,4

dead_leaves textures: .venv/.stamp  # the shipped weights on all test images
	$(BIN)/python experiments/evaluate.py results=$(RESULTS) experiment=sohl_dickstein_2015/$@

mnist: .venv/.stamp  # of both papers
	$(BIN)/python experiments/evaluate.py results=$(RESULTS) experiment=sohl_dickstein_2015/mnist
	$(BIN)/python experiments/evaluate.py results=$(RESULTS) experiment=ho_2020/mnist

cifar10: .venv/.stamp  # of both papers
	$(BIN)/python experiments/evaluate.py results=$(RESULTS) experiment=sohl_dickstein_2015/cifar10
	$(BIN)/python experiments/evaluate.py results=$(RESULTS) experiment=ho_2020/cifar10_bound

swiss_roll: SEEDS = 0,1,2,3,4
binary_heartbeat: SEEDS = 0

test test-all: export OMP_NUM_THREADS = 1
test test-all: export MPLBACKEND = agg
test: .venv/.stamp  ## lint, types and the tests that are not slow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-all: .venv/.stamp  ## every test, slow ones included
	$(BIN)/pytest -n 2 --dist worksteal

clean:  ## remove runs and reports; results/ and .venv stay
	rm -rf outputs report.html report.pdf

lock:  ## bring requirements.lock to the newest versions that pyproject.toml allows (for developers)
	$(require_python)
	@rm -rf .venv-lock
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python $(PIP_INSTALL) -e '.[dev]'
	@.venv-lock/bin/python -m pip check
	@.venv-lock/bin/python -m pip freeze --all --exclude-editable > .venv-lock/frozen
	@{ sed -n '/^#/p' requirements.lock; \
		sed -E '/^(pip|nvidia-[^=]*|cuda-[^=]*|triton)==/d; s/\+[^+]*$$//' .venv-lock/frozen; } > .venv-lock/lock
	@mv .venv-lock/lock requirements.lock
	@rm -rf .venv-lock

.venv/.stamp: pyproject.toml requirements.lock
	$(require_python)
	@echo "Installing the pinned dependencies into .venv with $$($(PYTHON) --version): about 0.4 GB to download and 1.8 GB on disk (far more with a CUDA build of torch)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP_INSTALL) -r requirements.lock
	@$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: help reproduce swiss_roll swiss_roll_quasi_newton binary_heartbeat dead_leaves textures mnist cifar10 test test-all clean lock
