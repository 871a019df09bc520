"""What becomes of a packet to a Service: which front end it meets, where it may go, why it is refused or dropped.

    twinstack proxy explain 10.96.0.1:443/TCP
    twinstack proxy explain '[fd00:10:96::a]:53/UDP' --from fd00:10:244::7
    twinstack proxy explain 192.0.2.1:80 --kubeconfig FILE --hostname-override NODE --cluster-cidr A,B

Without --kubeconfig it asks the local cluster, for its first node. Flags that change what a proxy does must be
those of the node's proxy. Nothing is read from the kernel and nothing is sent.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from twinstack.client import kubeconfig
from twinstack.client.kubeconfig import ClusterAccess
from twinstack.cluster.configuration import DEFAULT_NAME
from twinstack.cluster.errors import ClusterError
from twinstack.cluster.state import paths
from twinstack.proxy.explain import Question, as_json, as_text, ask
from twinstack.proxy.flags import add_node_flags, read_flags


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("destination", metavar="ADDRESS:PORT/PROTO", help="where the packet goes; TCP may be left out")
    parser.add_argument("--from", dest="source", default="", metavar="ADDRESS", help="where it comes from; else all")
    parser.add_argument("--name", default=DEFAULT_NAME, help="the local cluster to ask")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="form of the answer")
    add_node_flags(parser)


def run(args: argparse.Namespace) -> int:
    logging.getLogger("twinstack.proxy").setLevel(logging.ERROR)  # what a running proxy warns of is not asked for
    try:
        question = Question.parse(args.destination, args.source)
        if not args.kubeconfig and not args.config:
            _ask_local_cluster(args)
        configuration = read_flags(args)
        access: ClusterAccess = kubeconfig.load(configuration.kubeconfig)
        explanations = asyncio.run(ask(access, configuration, question))
    except (ValueError, kubeconfig.KubeconfigError) as error:
        sys.stderr.write(f"twinstack: {error}\n")
        return 2
    except TimeoutError:
        raise ClusterError("the API server did not tell its Services in time", "is the cluster running?") from None
    sys.stdout.write(as_json(question, explanations) if args.output == "json" else as_text(question, explanations))
    return 0


def _ask_local_cluster(args: argparse.Namespace) -> None:
    """Fill in what the local cluster's own proxies are called with."""
    own = paths(args.name)
    cluster = own.required()
    args.kubeconfig = str(own.kubeconfig)
    args.hostname_override = args.hostname_override or cluster.node_name(1)
    args.cluster_cidr = args.cluster_cidr or ",".join(map(str, cluster.pod_cidrs))
