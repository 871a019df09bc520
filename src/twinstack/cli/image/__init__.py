"""`twinstack image …`: the images of a cluster."""

from __future__ import annotations

import argparse

from twinstack.cluster.configuration import DEFAULT_NAME
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import paths
from twinstack.node.images.errors import ImageError
from twinstack.node.images.reference import InvalidReference
from twinstack.node.images.store import ImageStore


def add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster")


def store(name: str) -> ImageStore:
    """That of a cluster. Raises ClusterError when there is no such cluster."""
    own = paths(name)
    own.required()
    return ImageStore(own.images)


def problem(what: str, error: ImageError | InvalidReference | OSError, advice: str) -> ClusterError:
    """For people."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ClusterError(f"{what}: {text}", advice)
