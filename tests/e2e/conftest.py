"""One dual-stack cluster for all tests that only look at it or add objects of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.cluster import Cluster


@pytest.fixture(scope="session")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, IPv4 first, the example applied and its pods ready."""
    cluster = Cluster(f"tt-h-dual-{os.getpid()}", tmp_path_factory.mktemp("dual"))
    try:
        cluster.up()
        cluster.run_hello()
        yield cluster
        assert cluster.told_secrets() == []
    finally:
        cluster.down()


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[[str], Cluster]]:
    """Makes clusters, not yet up, and takes down what the test has not."""
    made: list[Cluster] = []

    def make(suffix: str) -> Cluster:
        made.append(Cluster(f"tt-h-{suffix}-{os.getpid()}", tmp_path))
        return made[-1]

    yield make
    told = [secret for cluster in made for secret in cluster.told_secrets()]
    for cluster in made:
        cluster.down()
    assert told == []
