# Everything a new user needs: `make demo` and `make test`. Python 3.11 is all that must be there.
# a distribution's Python is compiled with profiles, which many others are not: a third less time for all that is Python
PYTHON ?= $(shell /usr/bin/python3.11 -c "import ensurepip, venv" 2>/dev/null && echo /usr/bin/python3.11 || echo python3.11)
BIN := .venv/bin
SCALE ?= 300000
ROWS ?= 1754155
DEPTH ?= 100
SEEDS ?= 10000
SHARE ?= 1
# a test that hangs ends the run, with its name and what it waits for; the longest takes ten minutes (of test-deep, hours)
HANGS := -o faulthandler_timeout=1800 -o faulthandler_exit_on_timeout=true --max-worker-restart 0

.PHONY: demo live test test-deep simulate mutate check bench bench-live clean
.DEFAULT_GOAL := test

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/.installed  ## the whole path on a simulated log, into build/demo; SCALE=n for more
	rm -rf build/demo
	$(BIN)/unskew demo build/demo --scale $(SCALE)

live: .venv/.installed  ## the whole system on this machine, seen at work until Ctrl-C; ARGS="--duration 60s"
	$(BIN)/unskew live $(ARGS)

test: .venv/.installed check  ## the whole test suite
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadgroup --no-loadscope-reorder $(HANGS)

test-deep: .venv/.installed  ## the conformance suite and the simulation at 100 times their size (hours); DEPTH=n for another
	UNSKEW_DEPTH=$(DEPTH) $(BIN)/python -m pytest -q tests/conformance tests/simulation tests/online/test_read.py tests/pipelines/test_oracle.py

simulate: .venv/.installed  ## simulated schedules of a live system; SEEDS=n for more
	$(BIN)/python -m tests.simulation.run --seeds $(SEEDS)

mutate: .venv/.installed  ## small changes of the core's code that no test notices (over an hour); SHARE=0.1 for a sample
	nice -n 19 $(BIN)/python -m tests.mutation.run --share $(SHARE)

check: .venv/.installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p unskew
	$(BIN)/mypy tests --exclude typings

bench: .venv/.installed  ## speed beside peers, on ../shared/data; ROWS=n for fewer
	$(BIN)/python benchmarks/run.py --rows $(ROWS)

build/feast/.installed: benchmarks/feast.txt .venv/.installed
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/feast
	$(BIN)/uv pip install --quiet --python build/feast/bin/python --requirement benchmarks/feast.txt
	touch $@

bench-live: .venv/.installed build/feast/.installed  ## the running system: materialiser, freshness, reads beside Feast
	$(BIN)/python benchmarks/run.py --live --rows $(ROWS)

clean:  ## remove what the other targets made
	rm -rf .venv build *.egg-info
