# From a fresh clone: `make demo` runs the main job, `make test` every check.
# Both set up what they need first and say what they install; when nothing has
# changed that takes no time. Variables: PYTHON, VENV, TORCH_INDEX_URL.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
export TORCH_INDEX_URL

.PHONY: setup demo test lint types reference unit crash bench screenshots clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/setup.sh
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/napari-hspnet demo --out demo-out --overwrite

# Each of the first three takes one core.
test: $(STAMP)
	@$(MAKE) --no-print-directory -j2 types lint reference
	@$(MAKE) --no-print-directory unit

lint: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks docs tools
	$(BIN)/ruff check src tests benchmarks docs tools
	$(BIN)/lint-imports --no-logo

types: $(STAMP)
	$(BIN)/mypy

# From the docstrings, into docs/reference/; what cannot be resolved is an error.
ROOMS := classes errors slides networks training inference cases exchange phantom jobs
reference: $(STAMP)
	$(BIN)/python -W error::UserWarning -m pdoc --docformat numpy --no-show-source \
	  --footer-text "napari-hspnet. Research use only." \
	  -o docs/reference $(addprefix napari_hspnet.,$(ROOMS))

unit: $(STAMP)
	@VENV="$(VENV)" bash tools/run-tests.sh $(BIN)/python $(PYTEST)

# A review that kills itself 380 times, 20 times at each place; some minutes.
crash: $(STAMP)
	$(BIN)/python -m pytest tests/cases/test_case_crash.py --crash-kills 380 -s

bench: $(STAMP)
	@VENV="$(VENV)" bash tools/with-display.sh $(BIN)/python benchmarks/run.py $(BENCH)

screenshots: $(STAMP)
	@VENV="$(VENV)" bash tools/with-display.sh $(BIN)/python docs/make_screenshots.py
	$(BIN)/python docs/make_phantom_pictures.py

clean:
	rm -rf $(VENV) demo-out docs/reference .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
