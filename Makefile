# `make` says what there is. Everything happens in $(VENV); nothing else on the machine is touched.

VENV ?= .venv
PYTHON ?= python3
PORT ?= 8000
PY = $(VENV)/bin/python
READY = $(VENV)/.amtutor-ready
SITE = _build/html/index.html

# Data sets are looked for here first (README: Data).
ifeq ($(origin AMTUTOR_DATA),undefined)
ifneq ($(wildcard ../shared/data),)
export AMTUTOR_DATA := $(abspath ../shared/data)
endif
endif

.DEFAULT_GOAL = help
.PHONY: help book serve pdf notebooks chapter test quick bench faults wheel clean

help:
	@echo "amtutor: a memory is a low place, remembering is going downhill"
	@echo
	@echo "  make book       set up the environment, build the site, say where it is"
	@echo "  make serve      build it and serve it on http://127.0.0.1:$(PORT)"
	@echo "  make pdf        the whole book as one file; PRINT=code,solutions puts these in as well"
	@echo "  make notebooks  run every chapter and write its notebook (book/*.md -> book/*.ipynb)"
	@echo "  make chapter    start a chapter: make chapter NAME=18_my_subject"
	@echo "  make quick      ruff, mypy, unit tests, notebooks in step: two minutes or so"
	@echo "  make test       everything: also every notebook, the site, a real browser"
	@echo "  make bench      how fast, as ratios against plain ways of doing the same"
	@echo "  make faults     plausible faults, one at a time: which test notices? (an hour; NAME=descent)"
	@echo "  make wheel      the wheel and the source distribution into dist/: same files, same bytes"
	@echo "  make clean      remove what was built (the environment stays)"
	@echo
	@echo "The environment is $(VENV) (VENV=..., PYTHON=... choose others). On Linux the plain torch"
	@echo "package brings CUDA, gigabytes of it. If a CPU is all you have:"
	@echo "  PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make book"

$(READY): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is not installed; amtutor needs Python 3.11 or newer (PYTHON=... names one)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "amtutor needs Python 3.11 or newer, $$($(PYTHON) --version) is older (PYTHON=... names another)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

book: $(READY)
	@$(PY) tools/check.py site
	@echo "the book is at file://$(abspath $(SITE))"

serve: book
	@echo "http://127.0.0.1:$(PORT)  (Ctrl-C ends it)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

pdf: book
	@$(PY) tools/pdf.py --print "$(PRINT)"

notebooks: $(READY)
	@$(PY) tools/notebooks.py --all

chapter: $(READY)
	@$(PY) tools/new_chapter.py "$(NAME)"

test: $(READY)
	@$(PY) tools/check.py all

quick: $(READY)
	@$(PY) tools/check.py quick

bench: $(READY)
	@$(PY) -m benchmarks

faults: $(READY)
	@$(PY) tools/faults.py $(NAME)

wheel: $(READY)
	@$(PY) tools/build_wheel.py

clean:
	rm -rf _build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests tools benchmarks book -name __pycache__ -type d -prune -exec rm -rf {} +
