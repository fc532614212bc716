# Everything from a fresh machine with Python >= 3.10 and pip. `make` lists what there is.

PYTHON ?= python3
VENV ?= .venv
NERFSTUDIO_VENV ?= .venv-nerfstudio
TORCH_VERSION ?= 2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PYTEST_ARGS ?=
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DONE := $(VENV)/.done
HAS_NVIDIA = nvidia-smi >/dev/null 2>&1
BROWSERS := $(CHROMIUM) chromium chromium-browser google-chrome
FIND_CHROMIUM = for name in $(BROWSERS); do command -v "$$name" && break; done

# Threads that wait by spinning starve each other where cores are few.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test test-nerfstudio nerfstudio-tests lint install chromium nerfstudio-libraries clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: install  ## Open the viewer on the bundled pair of photos (ARGS="--port 9000")
	$(BIN)/hisplat-view --demo $(ARGS)

test: $(DONE)/dev chromium  ## Run all tests (PYTEST_ARGS="-k render")
	CHROMIUM="$$($(FIND_CHROMIUM))" $(BIN)/python -m pytest $(PYTEST_ARGS)

test-nerfstudio:  ## Run the tests of the nerfstudio plugin, in an environment of their own
	@$(MAKE) --no-print-directory VENV=$(NERFSTUDIO_VENV) nerfstudio-tests

nerfstudio-tests: $(DONE)/nerfstudio nerfstudio-libraries
	$(BIN)/python -m pytest tests/nerfstudio $(PYTEST_ARGS)

lint: $(DONE)/dev  ## Run ruff and pyright, all of them even if one complains
	@status=0; for check in "ruff check ." "ruff format --check ." pyright; do \
	  echo "$$check"; $(BIN)/$$check || status=1; \
	done; exit $$status

install: $(DONE)/app  ## Make the environment .venv with the program in it

clean:  ## Remove the environment and what was built
	rm -rf $(VENV) $(NERFSTUDIO_VENV) build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(DONE)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "HiSplat needs Python 3.10 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." >&2; \
	  echo "Name another one: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	mkdir -p $(DONE) && touch $@

# An existing torch stays. Without an NVIDIA GPU the CPU build is enough, but PyPI's wheels for
# Linux bring several gigabytes of CUDA: take a wheel that lies on this machine (pip's find-links),
# else PyTorch's own index of CPU builds, and what pip finds only where that one can't be reached.
$(DONE)/torch: $(DONE)/venv
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  echo "torch is installed: left as it is."; \
	elif [ "`uname -s`" != Linux ] || $(HAS_NVIDIA); then \
	  $(PIP) install torch; \
	elif $(PIP) install --quiet --dry-run --no-index --no-deps torch==$(TORCH_VERSION) 2>/dev/null; then \
	  $(PIP) install torch==$(TORCH_VERSION); \
	else \
	  $(PIP) --retries 0 install torch==$(TORCH_VERSION) --index-url $(TORCH_CPU_INDEX) || { \
	    echo "No CPU build of torch from $(TORCH_CPU_INDEX): taking the default one."; \
	    $(PIP) install torch==$(TORCH_VERSION); }; \
	fi
	@touch $@

# gsplat, which draws on the GPU, compiles its kernels with nvcc; without it the CPU draws.
$(DONE)/app: $(DONE)/torch pyproject.toml
	extras=viewer; if $(HAS_NVIDIA) && command -v nvcc >/dev/null; then extras=viewer,gpu; fi; \
	$(PIP) install --editable ".[$$extras]"
	@touch $@

$(DONE)/dev: $(DONE)/torch pyproject.toml
	$(PIP) install --editable ".[dev]"
	@touch $@ $(DONE)/app

# nerfstudio pins versions that the page's extra cannot live with. It brings some 250 packages, so
# nothing is compiled that isn't used. torch stays as it is: torchvision has to follow it.
$(DONE)/nerfstudio: $(DONE)/torch pyproject.toml
	$(PIP) install --no-compile --editable ".[nerfstudio]" pytest pytest-timeout beartype \
	  "torch==`$(BIN)/python -c 'import torch; print(torch.__version__)'`"
	$(PIP) check
	@touch $@

# nerfstudio reads points with open3d, which links to libraries of the system, and writes videos
# with the system's ffmpeg.
nerfstudio-libraries:
	@if command -v ffmpeg >/dev/null && $(BIN)/python -c 'import open3d' 2>/dev/null; then exit 0; fi; \
	if command -v apt-get >/dev/null; then \
	  if [ "`id -u`" = 0 ]; then as_root=; else as_root="sudo -n"; fi; \
	  $$as_root apt-get update && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
	    ffmpeg libusb-1.0-0 libgl1 libgomp1 && exit 0; \
	fi; \
	echo "The tests of the nerfstudio plugin need ffmpeg, libusb-1.0 and libGL: install them." >&2; \
	exit 1

# The browser tests drive a real Chromium.
chromium:
	@if [ -n "$$($(FIND_CHROMIUM))" ]; then exit 0; fi; \
	if command -v apt-get >/dev/null; then \
	  if [ "`id -u`" = 0 ]; then as_root=; else as_root="sudo -n"; fi; \
	  $$as_root apt-get update && \
	  $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium && exit 0; \
	fi; \
	echo "The browser tests need Chromium: install it and put it on PATH, or set CHROMIUM." >&2; \
	exit 1
