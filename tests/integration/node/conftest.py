from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.integration.node.machine import POD_CIDRS, Machine, ready_node


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An API server and a node that is ready for pods."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = Machine(tmp_path_factory.mktemp("machine"), POD_CIDRS)
    try:
        made.start()
        ready_node(made)
        yield made
    finally:
        made.stop()
