# Everything starts here; each target first installs what is missing (scripts/setup.sh).
.PHONY: setup peers clients up down test soak bench lint format lock

PYTEST = .venv/bin/python -m pytest

setup:
	@scripts/setup.sh

# The programs of others that the tests and measurements run against, and the clients whose sessions the tests replay.
peers: setup
	@scripts/unpack_peers.sh

clients: peers
	@.venv/bin/python scripts/install_clients.py

# A running cluster, and a short demonstration over both families.
up: setup
	@.venv/bin/twinstack up
	@scripts/demonstrate.sh

down: setup
	@.venv/bin/twinstack down

# Every rule and matrix once, with a real cluster: needs root.
test: clients
	$(PYTEST)

# The same at full counts.
soak: clients
	TWINSTACK_TESTS=soak $(PYTEST) --timeout 1800

bench: peers
	@for file in bench/*.py; do .venv/bin/python "$$file" || exit 1; done

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

format: setup
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

# After a change of the dependencies in pyproject.toml. Needs uv.
lock:
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --output-file requirements.lock
	uv pip compile scripts/clients.txt --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --output-file scripts/clients.lock
