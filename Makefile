# `make walkthrough` runs every notebook, `make test` every test. Both install what they need into .venv first.

PYTHON ?= python3
PROFILE ?= embedded
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
INSTALLER ?= $(RUN) -m pip install -qq

# glibc: large pages, and no return of large blocks to the system. Page faults on fresh tensors otherwise cost
# memory-bound layers several times over. Read before the first allocation, so it must stand here.
export THP_MEM_ALLOC_ENABLE := 1
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := -1
export MALLOC_TOP_PAD_ := 268435456

# Idle OpenMP threads that spin cost several times the run time where tests share the cores.
test baseline: export OMP_NUM_THREADS := 1
PYTEST := $(RUN) -m pytest -q -rs -n auto --maxprocesses 4
NBVAL := $(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout 300

.PHONY: walkthrough test lab book bench gpu-check evidence baseline kill-matrix fuzz clean
.DELETE_ON_ERROR:

walkthrough: $(INSTALLED)
	$(RUN) -m alexnet_lib.walkthrough --profile "$(PROFILE)"

test: $(INSTALLED)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	rm -rf build/checked
	ALEXNET_CHECKED=build/checked $(NBVAL) notebooks
	ALEXNET_CHECKED=build/checked $(PYTEST) --dist loadfile --no-loadscope-reorder tests

# On copies, in lab/. LAB="--port 9999" goes to JupyterLab.
lab: $(INSTALLED)
	$(RUN) docs/lab.py $(LAB)

book: $(INSTALLED)
	$(RUN) docs/book.py --profile "$(PROFILE)"

bench: $(INSTALLED)
	set -e; for script in $(filter-out benchmarks/gpu.py benchmarks/turns.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(RUN) "$$script"; done

# On a machine with a GPU: is what is fast there also right, and how fast is it? Eight minutes at most.
gpu-check: $(INSTALLED)
	$(RUN) benchmarks/gpu.py

# Which long runs are missing, how long they take, and the command of each.
evidence: $(INSTALLED)
	$(RUN) -m alexnet_lib.experiments.evidence

# Runs the notebooks as they are and commits nothing: look at `git diff` afterwards.
baseline: $(INSTALLED)
	$(RUN) tests/baseline.py --run notebooks/*.ipynb

# What is killed at random moments and begun again ends with the same bytes: an hour or two.
kill-matrix: $(INSTALLED)
	$(RUN) -m tests.kill_matrix --moments 50

# More than 100,000 altered files, and again as many that atheris chooses where it is installed, which pyproject.toml
# does not ask for.
fuzz: $(INSTALLED)
	$(RUN) -m tests.fuzz --inputs 4700
	@if $(RUN) -c "import atheris" 2>/dev/null; then set -e; for target in archive claims.toml configuration "raw meta.json"; do $(RUN) -m tests.fuzz --atheris "$$target" --inputs 25000; done; else echo "atheris is not installed: no inputs of its choice"; fi

# What was trained (runs/) and prepared (data/) stays.
clean:
	rm -rf $(VENV) build docs/_build *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -rf __pycache__ */__pycache__ .ipynb_checkpoints */.ipynb_checkpoints

# The stamp is the last step, so an interrupted install is taken up again.
$(INSTALLED): requirements.lock pyproject.toml setup.py
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, found {sys.version.split()[0]}; say: make PYTHON=/path/to/python3")'
	rm -f $@
	@echo "Installing into $(VENV): some minutes and gigabytes, once."
	"$(PYTHON)" -m venv $(VENV)
	$(INSTALLER) --require-hashes -r requirements.lock
	$(RUN) -m pip install -qq --no-deps --no-build-isolation -e .
	touch $@
