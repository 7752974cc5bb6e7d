# `make demo` and `make test` do all their set-up themselves; they need nothing but Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := demo-output
JOBS = $(shell $(BIN)/python -c 'import os; print(min(4, os.cpu_count()))')

.PHONY: help demo gui-demo test test-slow soak lint docs release-check benchmark-accuracy benchmark-diameter benchmark-entries benchmark-growth benchmark-few-labels benchmark-gpu benchmark-learning benchmark-speed reproduce reproduce-quick model clean

help:
	@echo "make demo                pick the sample micrograph, compare with the truth, draw the result"
	@echo "make gui-demo            the same, and look at it in the browser"
	@echo "make test                all checks, and the tests but the slow ones"
	@echo "make test-slow           the slow tests: whole trainings, clusters, other programs, browsers"
	@echo "make soak                2,000 random attacks on run folders, 100 with real processes (SEED=1)"
	@echo "make lint                the checks without the tests"
	@echo "make docs                the documentation as a web site, in site/"
	@echo "make release-check       build the packages, and pick with the wheel outside this folder"
	@echo "make benchmark-accuracy  leave-one-molecule-out accuracy (needs DEEPPICKER_DATA; after recipes/general.sh)"
	@echo "make benchmark-diameter  the diameter by itself (after benchmark-accuracy)"
	@echo "make benchmark-entries   run folders of 100,000 micrographs: time and memory to resume and to select anew"
	@echo "make benchmark-growth    accuracy against the number of molecules in training (needs DEEPPICKER_DATA)"
	@echo "make benchmark-few-labels  what a few manual picks gain, against Topaz (after benchmark-accuracy)"
	@echo "make benchmark-gpu       time and memory on a graphics card, and the same picks as on the processor"
	@echo "make benchmark-learning  learning before picking, every round on every data set (after benchmark-accuracy)"
	@echo "make benchmark-speed     time and memory by step, size and number, against Topaz and RELION"
	@echo "make reproduce           the paper's experiments in one report: a night (needs DEEPPICKER_DATA for real sets)"
	@echo "make reproduce-quick     the same, small, in some minutes"
	@echo "make model               simulate, and train general-small and deeppicker2016 again (needs DEEPPICKER_DATA)"
	@echo "make clean               remove what these commands made"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "DeepPicker needs Python 3.11 or newer; choose one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "This Python cannot make virtual environments; install its venv package (Debian, Ubuntu: python3-venv)"; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	@rm -rf $(DEMO)
	$(BIN)/deeppicker pick sample/micrographs --output $(DEMO)
	$(BIN)/deeppicker evaluate --picks $(DEMO) --reference sample/particles.star
	$(BIN)/deeppicker view sample/micrographs/sample_001.mrc.gz --picks $(DEMO) --reference sample/particles.star \
		--overlay $(DEMO)/overlay.png
	@echo "Coordinates for RELION: $(CURDIR)/$(DEMO)/autopick.star"
	@echo "Picture of the picks:   $(CURDIR)/$(DEMO)/overlay.png"

gui-demo: demo
	$(BIN)/deeppicker gui $(DEMO) --reference sample/particles.star

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m "not slow" --numprocesses $(JOBS) --dist loadfile --durations 10

test-slow: $(READY)
	$(BIN)/pytest -m slow --numprocesses $(JOBS) --dist load --durations 10

docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

# Random sequences of what users, schedulers and disks do to a run folder (tests/runs/machine.py).
soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python tests/runs/machine.py --sequences 2000 --seed $(or $(SEED),1)
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python tests/runs/real_machine.py --sequences 100 --seed $(or $(SEED),1)

release-check: $(READY)
	.ci/release-check $(BIN)/python

# The models of these benchmarks start from what the recipe of the general model leaves in work/.
benchmark-accuracy: $(READY)
	$(BIN)/python benchmarks/accuracy.py

benchmark-diameter: $(READY)
	$(BIN)/python benchmarks/diameter.py

benchmark-entries: $(READY)
	$(BIN)/python benchmarks/entries.py --output benchmarks/results/entries.json

benchmark-growth: $(READY)
	$(BIN)/python benchmarks/growth.py

benchmark-few-labels: $(READY)
	$(BIN)/python benchmarks/few_labels.py

benchmark-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

benchmark-learning: $(READY)
	$(BIN)/python benchmarks/learning.py
	$(BIN)/python benchmarks/compact.py

benchmark-speed: $(READY)
	$(BIN)/python benchmarks/speed.py

# Either goes on where it was stopped; the report is benchmarks/paper/report.html.
reproduce: $(READY)
	$(BIN)/python benchmarks/reproduce.py

reproduce-quick: $(READY)
	$(BIN)/python benchmarks/reproduce.py --quick

model: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" recipes/general.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" recipes/deeppicker2016.sh

clean:
	rm -rf $(VENV) $(DEMO) build dist site src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests benchmarks recipes -name __pycache__ -type d -prune -exec rm -rf {} +
