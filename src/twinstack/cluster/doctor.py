"""Show what this machine can do and what is missing. Exit code 1 when something that a cluster needs is missing.

Everything is tried in namespaces of its own; nothing of the machine is changed and nothing is left.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from twinstack.cluster import checks, preconditions
from twinstack.cluster.checks import Check
from twinstack.cluster.errors import ClusterError

_KERNEL = "use a kernel that has it: those of Debian 12, Ubuntu 24.04 and newer do"
_MODULE = "nothing of today needs it; `modprobe {0}` as root may load it"
_PACKAGES = "apt-get install -y --no-install-recommends {0}"

CHECKS = [
    Check("privileges", True, checks.privileges, "run `sudo twinstack doctor`, in a container with --privileged"),
    Check("python", True, checks.python, "run `make setup` in the source directory"),
    Check("kernel", True, checks.process_descriptors, "use Linux 5.4 or newer"),
    Check("interfaces", True, checks.interfaces, _KERNEL),
    Check("both families", True, checks.both_families, "enable IPv6: sysctl net.ipv6.conf.all.disable_ipv6=0"),
    Check("nftables", True, checks.nftables, "load it as root: modprobe nf_tables"),
    Check("mounts", True, checks.mount_namespaces, "run outside of a container, or in one with --privileged"),
    Check("state directory", True, checks.state_directory, "let TWINSTACK_HOME name a directory elsewhere"),
    Check("OCI runtime", True, checks.oci_runtime, f"if one is not found: {preconditions.INSTALL}"),
    Check("owned tables", False, checks.owned_tables, "Linux 6.9 has it; before, a flush is noticed and mended"),
    Check("fast path", False, checks.fast_path, "nothing of today needs it; `modprobe nf_flow_table` may load it"),
    Check("API port", False, checks.api_port, "`twinstack up` takes the next free one"),
    Check("overlay", False, checks.overlay, "let TWINSTACK_HOME name a directory that is on no overlay"),
    Check("egress", False, partial(checks.program, "pasta"), _PACKAGES.format("passt") + ", for `up --egress`"),
    Check("vxlan", False, partial(checks.link_kind, "vxlan"), _MODULE.format("vxlan")),
    Check("wireguard", False, partial(checks.link_kind, "wireguard"), _MODULE.format("wireguard")),
    Check("sctp", False, checks.sctp, _MODULE.format("sctp")),
    Check("tun", False, checks.tun, _MODULE.format("tun")),
    Check("kubectl", False, partial(checks.program, "kubectl"), "twinstack tools install"),
    Check("helm", False, partial(checks.program, "helm"), "twinstack tools install --helm"),
    Check(
        "to look inside",
        False,
        partial(checks.program, "ip", "nft", "conntrack", "curl"),
        _PACKAGES.format("iproute2 nftables conntrack curl"),
    ),
]


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text", help="for people or for programs")


def run(args: argparse.Namespace) -> int:
    """0 when a cluster can run here."""
    results = [examine(check) for check in CHECKS]
    able = all(result["ok"] or not result["required"] for result in results)
    if args.output == "json":
        print(json.dumps({"able": able, "checks": results}, indent=2))
    else:
        print(as_text(results, able))
    return 0 if able else 1


def examine(check: Check) -> dict[str, Any]:
    """The form that `-o json` prints: name, required, ok, detail, and advice when it is not ok."""
    result: dict[str, Any] = {"name": check.name, "required": check.required, "ok": True}
    try:
        return {**result, "detail": check.run()}
    except ClusterError as error:
        return {**result, "ok": False, "detail": error.problem, "advice": error.advice or check.advice}
    except OSError as error:
        return {**result, "ok": False, "detail": error.strerror or str(error), "advice": check.advice}


def as_text(results: list[dict[str, Any]], able: bool) -> str:
    """For people."""
    width = max(len(result["name"]) for result in results)
    lines = []
    for result in results:
        mark = "yes" if result["ok"] else "NO" if result["required"] else "no"
        detail = result["detail"] if result["ok"] else f"{result['detail']}: {result['advice']}"
        lines.append(f"{mark:<4}{result['name']:<{width}}  {detail}")
    last = "A cluster can run here." if able else "A cluster cannot run here: see the lines with NO."
    return "\n".join([*lines, "", last])
