from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.integration.node.machine import Machine, ready_node


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """An API server and a node of both families that is ready for pods."""
    yield from running(Machine(tmp_path_factory.mktemp("machine")))


@pytest.fixture
def machine6(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The same with IPv6 alone."""
    yield from running(Machine(tmp_path_factory.mktemp("machine6"), "ipv6"))


def running(made: Machine) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    try:
        made.start()
        ready_node(made)
        yield made
    finally:
        made.stop()
