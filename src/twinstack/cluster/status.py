"""Show the health of every part of a cluster: processes, API server, nodes. Exit code 0 when all is well."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

from twinstack.cluster import watcher
from twinstack.cluster.configuration import DEFAULT_NAME, ClusterConfiguration
from twinstack.cluster.outcome import DONE, Outcome
from twinstack.cluster.state import ClusterPaths, name_flag, paths

_API_PATIENCE = 3.0  # seconds for the API server to answer


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default=DEFAULT_NAME, help="the cluster")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="for people or for programs")


def run(args: argparse.Namespace) -> int:
    """0: every part runs, the API server answers, every node is ready."""
    own = paths(args.name)
    report = collect(own.required(), own)
    if args.output == "json":
        print(json.dumps(report, indent=2))
    else:
        print(as_text(report))
    return 0 if report["healthy"] else 1


def collect(cluster: ClusterConfiguration, own: ClusterPaths) -> dict[str, Any]:
    """The form that `-o json` prints. Sizes are in KiB, times are Unix seconds."""
    supervised = watcher.parts_running(own)
    parts = [
        {
            "name": part.name,
            "node": part.node,
            "state": part.state,
            "pid": part.pid,
            "since": part.since,
            "restarts": part.restarts,
            "lastExit": part.last_exit,
            "pssKiB": proportional_size(part.pid),
            "log": str(own.logs / f"{part.name}.log"),
        }
        for part in supervised or ()
    ]
    api, nodes = _ask_api(cluster, own)
    outcome = Outcome.load(own)
    changing = watcher.changing(own) or []
    healthy = bool(parts) and all(part["state"] == "running" for part in parts) and not api
    return {
        **cluster.to_json(),
        "server": f"https://127.0.0.1:{cluster.api_port}",
        "kubeconfig": str(own.kubeconfig),
        "healthy": healthy and all(node["ready"] for node in nodes),
        "supervisor": supervised is not None,
        "apiError": api,
        "configuration": {"state": outcome.state, "message": outcome.message, "changing": changing},
        "parts": parts,
        "nodes": nodes,
    }


def _ask_api(cluster: ClusterConfiguration, own: ClusterPaths) -> tuple[str, list[dict[str, Any]]]:
    """The API server's trouble, empty when it answers, and what it says of the cluster's nodes."""
    from twinstack.cluster import readiness

    trouble = ""
    found = {}
    try:
        found = asyncio.run(readiness.list_nodes(own, _API_PATIENCE))
    except OSError as error:
        trouble = str(error) or type(error).__name__
    nodes = []
    for index in cluster.node_indexes:
        name = cluster.node_name(index)
        node = found.get(name)
        nodes.append(
            {
                "name": name,
                "ready": node is not None and readiness.is_ready(node),
                "addresses": [str(address) for address in cluster.node_addresses(index)],
                "podCIDRs": list(node.spec.pod_cidrs) if node is not None else [],
            }
        )
    return trouble, nodes


def proportional_size(pid: int | None) -> int | None:
    """The memory of a process in KiB, pages that others share counted by their share; None when it is gone."""
    if pid is None:
        return None
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (FileNotFoundError, ProcessLookupError, PermissionError, StopIteration):
        return None


def as_text(report: dict[str, Any]) -> str:
    """For people."""
    from twinstack.cluster.readiness import age

    lines = [
        f"Cluster {report['name']}: Services {', '.join(report['serviceCIDRs'])}; pods {', '.join(report['podCIDRs'])}",
        f"API server {report['server']}: {report['apiError'] or 'answers'}",
        *_of_configuration(report["configuration"]),
        "",
    ]
    if not report["supervisor"]:
        lines.append(f"Nothing watches over its parts: `twinstack up{name_flag(report['name'])}` starts them.")
    else:
        rows = [["PART", "STATE", "PID", "SINCE", "MEMORY", "RESTARTS", "LAST EXIT"]]
        for part in report["parts"]:
            size = f"{part['pssKiB'] / 1024:.0f} MiB" if part["pssKiB"] is not None else ""
            rows.append(
                [
                    part["name"],
                    part["state"],
                    str(part["pid"] or ""),
                    age(part["since"]) if part["pid"] else "",
                    size,
                    str(part["restarts"]),
                    part["lastExit"],
                ]
            )
        lines += _table(rows)
    lines.append("")
    rows = [["NODE", "READY", "ADDRESSES", "POD CIDRS"]]
    for node in report["nodes"]:
        ready = "yes" if node["ready"] else "no"
        rows.append([node["name"], ready, ", ".join(node["addresses"]), ", ".join(node["podCIDRs"])])
    return "\n".join([*lines, *_table(rows)])


def _of_configuration(found: dict[str, Any]) -> list[str]:
    """A line when there is something to tell of the configuration object."""
    if found["state"] == DONE and not found["message"]:
        return []
    changing = f" (to be replaced: {', '.join(found['changing'])})" if found["changing"] else ""
    return [f"Configuration: {found['state']}{': ' * bool(found['message'])}{found['message']}{changing}"]


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
