"""The commands of `twinstack`, each with the module that holds it: known without importing any of them.

Such a module has `add_flags(parser)` and `run(args) -> exit code`.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """One word of the command line."""

    module: str
    summary: str
    component: bool = False  # a long-running process that logs
    hidden: bool = False


COMMANDS: dict[str, Command] = {
    "up": Command("twinstack.cluster.up", "start a local cluster, or complete one that is partly running"),
    "down": Command("twinstack.cluster.down", "stop a local cluster and remove every trace of it"),
    "status": Command("twinstack.cluster.status", "show the health of every part of a cluster"),
    "kubeconfig": Command("twinstack.cluster.kubeconfig", "print the path of a cluster's kubeconfig"),
    "node-exec": Command("twinstack.cluster.node_exec", "run a host command in the network namespace of a node"),
    "image load": Command("twinstack.cli.image.load", "bring images out of archives into a cluster"),
    "image list": Command("twinstack.cli.image.list", "show the images of a cluster"),
    "image remove": Command("twinstack.cli.image.remove", "remove images from a cluster"),
    "doctor": Command("twinstack.cluster.doctor", "show what this machine can do, and what to install"),
    "tools": Command("twinstack.cluster.tools", "fetch client programs: kubectl and Helm"),
    "server": Command("twinstack.server.command", "the Kubernetes API server", component=True),
    "server backup": Command("twinstack.server.backup.take", "copy all that a running server stores into a file"),
    "server restore": Command("twinstack.server.backup.restore", "make a server's store from such a file"),
    "controllers": Command("twinstack.controllers.command", "the controllers of the cluster", component=True),
    "scheduler": Command("twinstack.scheduler.command", "the scheduler of pods", component=True),
    "node": Command("twinstack.node.command", "the agent of one node: its pods and their network", component=True),
    "cni serve": Command(
        "twinstack.node.cni.serve", "the CNI plugin's service, beside another runtime", component=True
    ),
    "cni install": Command("twinstack.node.cni.install", "write the CNI plugin where a runtime looks for it"),
    "proxy": Command("twinstack.proxy.command", "the Service proxy of one node", component=True),
    "proxy explain": Command("twinstack.cli.explain", "what becomes of a packet to ADDRESS:PORT/PROTO on a node"),
    "supervise": Command(
        "twinstack.cluster.supervise", "watch over a cluster's processes", component=True, hidden=True
    ),
    "egress": Command("twinstack.cluster.egress", "the way out of a cluster", component=True, hidden=True),
    "follow": Command(
        "twinstack.cluster.follow", "let a cluster become what its configuration says", component=True, hidden=True
    ),
}


def overview() -> str:
    """What `twinstack --help` prints."""
    width = max(len(name) for name in COMMANDS) + 2

    def rows(component: bool) -> list[str]:
        return [
            f"  {name:<{width}}{command.summary}"
            for name, command in COMMANDS.items()
            if command.component is component and not command.hidden
        ]

    lines = [
        "usage: twinstack COMMAND [flags]",
        "",
        "Kubernetes dual-stack (IPv4 and IPv6) networking as one system.",
        "",
        "a cluster on this machine:",
        *rows(False),
        "",
        "its parts, each a process of its own:",
        *rows(True),
        "",
        "`twinstack COMMAND --help` shows the flags of a command, `twinstack --version` the version.",
    ]
    return "\n".join(lines)
