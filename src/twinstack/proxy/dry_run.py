"""What the proxy would program, for people and for programs; nothing is written."""

from __future__ import annotations

import sys

import msgspec

from twinstack.client.kubeconfig import ClusterAccess
from twinstack.dataplane.claims import Claims
from twinstack.dataplane.model import FrontEnd, Surroundings
from twinstack.ip import IPFamily
from twinstack.proxy import manifests, snapshot
from twinstack.proxy.configuration import Configuration, supported_families
from twinstack.proxy.snapshot import Snapshot


async def show(access: ClusterAccess, configuration: Configuration, output: str) -> int:
    """Print the desired state as text or JSON; 1 when the API server does not tell it in time."""
    try:
        taken = await snapshot.take(access, configuration, supported_families())
    except TimeoutError:
        sys.stderr.write("the API server did not tell its Services and EndpointSlices in time\n")
        return 1
    _print(taken, output)
    return 0


def show_manifests(path: str, configuration: Configuration, output: str) -> int:
    """The same for manifests, both families whatever this machine has; 2 when they cannot be read."""
    try:
        taken, remarks = manifests.snapshot(manifests.read(path), configuration, list(IPFamily))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _print(taken, output)
    sys.stderr.writelines(f"{remark}\n" for remark in remarks)
    return 0


def _print(taken: Snapshot, output: str) -> None:
    report = {str(family): (taken.claims[family], taken.surroundings[family]) for family in taken.claims}
    sys.stdout.write(_json(report) if output == "json" else _text(report))


Report = dict[str, tuple[Claims, Surroundings]]


def _json(report: Report) -> str:
    document = {
        family: {
            "frontEnds": [_front_end(front_end) for front_end in _sorted(claims)],
            "nodeAddresses": sorted(map(str, around.node_ips)),
            "serviceCIDRs": sorted(map(str, around.service_cidrs)),
            "localPodCIDRs": sorted(map(str, around.local_pods or ())),
        }
        for family, (claims, around) in report.items()
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _front_end(front_end: FrontEnd) -> dict[str, object]:
    slot = front_end.slot
    return {
        "address": str(slot.address) if slot.address is not None else None,
        "port": slot.port,
        "protocol": slot.protocol.name,
        "via": str(front_end.via),
        "service": f"{front_end.name.namespace}/{front_end.name.service}",
        "portName": front_end.name.port,
        "action": front_end.action.value,
        "endpoints": list(map(str, front_end.targets)),
        "endpointsForThisNode": list(map(str, front_end.near)) if front_end.near is not None else None,
        "affinitySeconds": front_end.affinity,
        "sourceRanges": list(map(str, front_end.sources)) if front_end.sources is not None else None,
    }


def _text(report: Report) -> str:
    rows = [("FAMILY", "FRONT END", "VIA", "SERVICE PORT", "ACTION", "ENDPOINTS")]
    for family, (claims, _) in report.items():
        rows += [
            (family, str(f.slot), str(f.via), str(f.name), f.action.value, " ".join(_endpoints(f)))
            for f in _sorted(claims)
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]]) for row in rows]
    for family, (_, around) in report.items():
        pods = ", ".join(sorted(map(str, around.local_pods or ()))) or "unknown: no source is masqueraded as foreign"
        nodes = ", ".join(sorted(map(str, around.node_ips))) or "none: NodePorts do not answer"
        ranges = ", ".join(sorted(map(str, around.service_cidrs))) or "unknown: free addresses are not dropped"
        lines += ["", f"{family}: local pods {pods}; NodePorts on {nodes}; Service ranges {ranges}"]
    return "\n".join(lines) + "\n"


def _endpoints(front_end: FrontEnd) -> list[str]:
    shown = list(map(str, front_end.targets)) or ["-"]
    shown += ["for this node:", *map(str, front_end.near)] if front_end.near is not None else []
    shown += [f"affinity {front_end.affinity}s"] if front_end.affinity else []
    return shown + (["from:", *map(str, front_end.sources)] if front_end.sources is not None else [])


def _sorted(claims: Claims) -> list[FrontEnd]:
    return sorted(claims, key=lambda f: (f.name, f.via, f.slot.port))
