"""Print the path of a cluster's kubeconfig: `export KUBECONFIG=$(twinstack kubeconfig)`."""

from __future__ import annotations

import argparse

from twinstack.cluster.configuration import DEFAULT_NAME
from twinstack.cluster.state import paths


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster")


def run(args: argparse.Namespace) -> int:
    own = paths(args.name)
    own.required()
    print(own.kubeconfig)
    return 0
