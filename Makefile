# make study   install, start Ray here, run the embedded study, print the report's path
# make test    install, run every test
# make lint    ruff and pyright
# make stop    end the Ray head that `make study` left running for its dashboard
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: install head study test lint stop
.SILENT:

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,notebooks]'
	touch $@

head: install
	clusters/local.sh start

study: head
	eval "$$(clusters/local.sh env)" && ray job submit -- python jobs/scaling_grid.py demo
	echo $(CURDIR)/studies/demo/report/report.html

# First what needs no Ray, on up to four cores; then what does, test by test. A failure in the first does not spare the second.
test: install
	failed=0; \
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -m "not ray" --numprocesses auto --maxprocesses 4 --dist loadfile || failed=$$?; \
	$(VENV)/bin/python -m pytest -m ray || failed=$$?; \
	exit $$failed

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

stop:
	clusters/local.sh stop
