# `make reproduce` and `make test` need Python 3.11, 3.12 or 3.13 with pip and venv, nothing else.
# Variables:
#   PYTHON           the Python that makes the environment; default: python3.11, else python3
#   TORCH_INDEX_URL  an extra package index to look for torch in; default: none. On Linux the standard torch is a CUDA
#                    build, about 3 GB more to download; the address of PyTorch's own index of CPU builds avoids that.
#   RESULTS          where `make reproduce` writes what it measures; default: results/yours, which git ignores.
#                    `make reproduce RESULTS=results` refreshes the records that the project ships.
#   AUTHOR, TITLE, DATE   what stands above the report; default: those of conf/report.yaml

PYTHON ?= $(shell python3.11 --version >/dev/null 2>&1 && echo python3.11 || echo python3)
TORCH_INDEX_URL ?=
RESULTS ?= results/yours

BIN := .venv/bin
PIP_INSTALL = -m pip --disable-pip-version-check install -qq $(if $(TORCH_INDEX_URL),--extra-index-url '$(TORCH_INDEX_URL)')

define require_python
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
		echo 'error: "$(PYTHON)" is not Python 3.11, 3.12 or 3.13; name one that is: make PYTHON=/path/to/python3.11' >&2; exit 2; }
endef

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1: \2/p' Makefile

reproduce: .venv/.stamp  ## train, evaluate, write the report, and compare: paper, shipped, yours
	@$(BIN)/python -m dpm reproduce --results $(RESULTS)

PARTS := swiss_roll binary_heartbeat swiss_roll_quasi_newton dead_leaves textures mnist cifar10
$(PARTS): .venv/.stamp  # of `make reproduce`
	@$(BIN)/python -m dpm reproduce $@ --results $(RESULTS)

WORDS = $(if $(TITLE),"title=$$TITLE") $(if $(AUTHOR),"author=$$AUTHOR") $(if $(DATE),"date=$$DATE")
export TITLE AUTHOR DATE
report: .venv/.stamp  ## report.html and report.pdf from the records; AUTHOR="..." TITLE="..." DATE="..." stand above it
	@$(BIN)/python experiments/report.py $(WORDS)

report-tex: .venv/.stamp  ## the same and report.tex for LaTeX, with its figures as PDF in report_figures
	@$(BIN)/python experiments/report.py latex=true $(WORDS)

test: .venv/.stamp  ## lint, types and the tests that are not slow
	@$(BIN)/python -m dpm test

test-all: .venv/.stamp  ## every test, slow ones included
	@$(BIN)/python -m dpm test-all

clean:  ## remove runs and reports; results/ and .venv stay
	rm -rf outputs report.html report.pdf report.tex report_figures figures

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

.PHONY: help reproduce $(PARTS) report report-tex test test-all clean lock
