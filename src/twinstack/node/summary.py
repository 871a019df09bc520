"""Answers of `/stats/summary` (k8s.io/kubelet stats/v1alpha1 Summary). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api import times
from twinstack.linux.cgroupusage import Usage
from twinstack.node.sampling import Disk, Interface, PodReading, Reading

JSON = dict[str, Any]

_DEFAULT = "eth0"  # the interface whose numbers stand for the network


def summary(node_name: str, now: Reading, before: Reading | None, *, brief: bool) -> JSON:
    """`brief`: of CPU and memory alone."""
    node: JSON = {"nodeName": node_name, "startTime": times.format_time(now.booted)}
    node |= _used(now, now.node, before, before.node if before else None)
    pods = [_pod(uid, reading, now, before, brief=brief) for uid, reading in now.pods.items()]
    if not brief:
        disk = {"time": times.format_time(now.time)} | _disk(now.disk)
        node |= _network(now, now.network) | {"fs": disk, "runtime": {"imageFs": disk, "containerFs": disk}}
    return {"node": node, "pods": pods}


def _pod(uid: str, reading: PodReading, now: Reading, before: Reading | None, *, brief: bool) -> JSON:
    meta = reading.pod.metadata
    last = before.pods.get(uid) if before is not None else None
    known = {run.key: usage for run, usage in last.containers} if last is not None else {}
    shown: JSON = {
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": uid},
        "startTime": reading.pod.status.start_time or meta.creation_timestamp,
        "containers": [
            {"name": run.key.name, "startTime": times.format_time(run.started_at)}
            | _used(now, usage, before, known.get(run.key))
            for run, usage in reading.containers
        ],
    }
    if reading.own is not None:
        shown |= _used(now, reading.own, before, last.own if last is not None else None)
    if not brief:
        if reading.own is not None:
            shown["process_stats"] = {"process_count": reading.own.processes}
        if reading.network is not None:
            shown |= _network(now, reading.network)
    return shown


def _used(now: Reading, usage: Usage, before: Reading | None, last: Usage | None) -> JSON:
    time = times.format_time(now.time)
    cpu: JSON = {"time": time}
    if before is not None and last is not None and usage.cpu >= last.cpu:
        cpu["usageNanoCores"] = int((usage.cpu - last.cpu) / (now.time - before.time))
    memory: JSON = {"time": time}
    if usage.limit:
        memory["availableBytes"] = max(0, usage.limit - usage.working_set)
    return {
        "cpu": cpu | {"usageCoreNanoSeconds": usage.cpu},
        "memory": memory
        | {
            "usageBytes": usage.memory,
            "workingSetBytes": usage.working_set,
            "rssBytes": usage.resident,
            "pageFaults": usage.faults,
            "majorPageFaults": usage.major_faults,
        },
    }


def _network(now: Reading, interfaces: Sequence[Interface]) -> JSON:
    shown = [
        {
            "name": each.name,
            "rxBytes": each.received,
            "rxErrors": each.receive_errors,
            "txBytes": each.sent,
            "txErrors": each.send_errors,
        }
        for each in interfaces
    ]
    default = next((each for each in shown if each["name"] == _DEFAULT), {"name": ""})
    return {"network": {"time": times.format_time(now.time)} | default | {"interfaces": shown}}


def _disk(disk: Disk) -> JSON:
    return {
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": disk.used,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes - disk.inodes_free,
    }
