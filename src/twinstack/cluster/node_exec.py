"""Run a host command in the network namespace of a node: `twinstack node-exec twinstack-1 -- curl http://10.96.0.1`.

The command sees the host's files and processes, and the node's interfaces, routes and firewall.
"""

from __future__ import annotations

import argparse
import os

from twinstack.cluster.configuration import DEFAULT_NAME
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import paths
from twinstack.linux import namespaces


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster")
    parser.add_argument("node", metavar="NODE", help="a node's name, its number, or `switch` for the network between")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the command and its arguments")


def run(args: argparse.Namespace) -> int:
    """The command takes this process's place; its exit code is the command's own."""
    own = paths(args.name)
    cluster = own.required()
    known = {"switch": own.switch}
    for index in cluster.node_indexes:
        known[str(index)] = known[cluster.node_name(index)] = own.node(index)
    if args.node not in known:
        names = ", ".join(cluster.node_name(index) for index in cluster.node_indexes)
        raise ClusterError(f"no node {args.node!r} in cluster {cluster.name}", f"its nodes: {names}")
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not words:
        raise ClusterError(
            "no command to run", f"write it after two hyphens: twinstack node-exec {args.node} -- ip addr"
        )
    try:
        namespaces.enter(known[args.node])
        os.execvp(words[0], words)
    except FileNotFoundError as error:
        if error.filename is None:
            raise ClusterError(f"no program {words[0]!r} on this machine") from None
        raise ClusterError(f"node {args.node} is not there", "`twinstack up` makes it") from None
    except PermissionError as error:
        raise ClusterError(f"cannot run {words[0]}: {error.strerror}", "entering a node's network needs root") from None
