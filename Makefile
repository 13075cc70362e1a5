# make demo and make test set up everything they need in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
export MAX_JOBS

.PHONY: help demo notebook test test-all test-cuda test-twin test-c asan bench lint build clean

help:
	@echo "make demo       train a small MBGN on the embedded set, two to five minutes"
	@echo "make notebook   JupyterLab on notebooks/ (installs it)"
	@echo "make test       build and run the tests (under five minutes on two cores)"
	@echo "make test-all   the slow ones, too"
	@echo "make test-cuda  the CUDA kernels and their run time, run on the host (two minutes)"
	@echo "make test-twin  comparisons with PyTorch networks (installs torch)"
	@echo "make asan       C tests under address and undefined-behaviour sanitizers"
	@echo "make bench      speed on this machine beside every installed peer (hours; reidc bench --help)"
	@echo "make lint       ruff, and the rules of the C sources"
	@echo "The first of them makes .venv and compiles the C core, two to five minutes more."

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip
	$(PY) -m pip install -q "setuptools>=77" "numpy>=2.0" "pillow>=10" "pytest>=7" pytest-xdist scipy matplotlib
	touch $@

build: $(VENV)/ready
	@echo "compiling the C core: minutes the first time, silently; then what has changed"
	@$(PY) -m pip install -q --no-build-isolation -e .

demo: build
	$(PY) -m reidc demo

notebook: build
	$(PY) -m pip install -q --no-build-isolation -e ".[notebook]"
	$(VENV)/bin/jupyter lab notebooks

test: build
	$(PY) -m pytest -q -n auto --maxprocesses 4 -m "not slow and not twin and not gpu and not cuda_host" -rs

test-all: build
	$(PY) -m pytest -q -m "not twin and not gpu" -rs

test-cuda: build
	$(PY) -m pytest -q -m "cuda_host" -rs tests/cuda

test-twin: build
	$(PY) -m pip install -q "torch==2.13.0"
	OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -q -m "twin" -rs

asan: $(VENV)/ready
	bash tests/c/run.sh

bench: build
	$(PY) -m reidc bench

lint: build
	$(PY) -m pip install -q "ruff==0.17.6"
	$(VENV)/bin/ruff check reidc tests benchmarks notebooks setup.py
	$(PY) -m pytest -q tests/api -k lint

clean:
	rm -rf build $(VENV) reidc/*.so *.egg-info
