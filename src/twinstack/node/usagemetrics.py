"""Answers of `/metrics/resource`, `/metrics/cadvisor` and `/metrics/probes`: kubelet's names and labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from twinstack.linux.cgroupusage import Usage
from twinstack.node.probes.state import Count
from twinstack.node.runtime.base import Container, pod_group
from twinstack.node.sampling import PodReading, Reading


class _Family:
    """One metric, with its samples in lines."""

    def __init__(self, name: str, kind: str, text: str) -> None:
        self._head = f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
        self._name = name
        self._lines: list[str] = []

    def add(self, value: float, labels: Mapping[str, str], time: float | None = None) -> None:
        pairs = ",".join(f'{name}="{_escaped(text)}"' for name, text in sorted(labels.items()))
        stamp = f" {int(time * 1000)}" if time is not None else ""
        self._lines.append(f"{self._name}{f'{{{pairs}}}' if pairs else ''} {value:.12g}{stamp}\n")

    def text(self) -> str:
        return self._head + "".join(self._lines) if self._lines else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


_CPU = "Cumulative cpu time consumed by the {} in core-seconds"
_MEMORY = "Current working set of the {} in bytes"


def resource(now: Reading) -> str:
    """What metrics-server reads."""
    cpu, memory = (
        {whose: _Family(f"{whose}_{name}", kind, f"[STABLE] {text.format(whose)}") for whose in _WHOSE}
        for name, kind, text in (
            ("cpu_usage_seconds_total", "counter", _CPU),
            ("memory_working_set_bytes", "gauge", _MEMORY),
        )
    )
    text = "[STABLE] Start time of the container since unix epoch in seconds"
    starts = _Family("container_start_time_seconds", "gauge", text)

    def add(whose: str, usage: Usage, labels: Mapping[str, str]) -> None:
        cpu[whose].add(usage.cpu / 1e9, labels, now.time)
        memory[whose].add(usage.working_set, labels, now.time)

    add("node", now.node, {})
    for reading in now.pods.values():
        labels = _of(reading)
        if reading.own is not None:
            add("pod", reading.own, labels)
        for run, usage in reading.containers:
            add("container", usage, labels | {"container": run.key.name})
            starts.add(run.started_at, labels | {"container": run.key.name})
    text = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"
    error = _Family("resource_scrape_error", "gauge", text)
    error.add(0, {})
    return "".join(family.text() for family in (*cpu.values(), *memory.values(), starts, error))


_WHOSE = ("container", "node", "pod")


def cadvisor(now: Reading, group: str) -> str:
    """Of containers, and of pods as a whole under an empty container name. `group`: the path of the group of all."""
    cpu = _Family("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.")
    memory = _Family("container_memory_working_set_bytes", "gauge", "Current working set in bytes.")
    network = {
        field: _Family(f"container_network_{name}_total", "counter", f"Cumulative count of {text}")
        for field, name, text in _NETWORK
    }
    for uid, reading in now.pods.items():
        where = f"/{group.strip('/')}/{pod_group(uid)}"
        whole = _of(reading) | {"container": "", "id": where, "image": "", "name": ""}
        rows = [(whole, reading.own)] if reading.own is not None else []
        rows += [(whole | _of_run(run, where), usage) for run, usage in reading.containers]
        for labels, usage in rows:
            cpu.add(usage.cpu / 1e9, labels | {"cpu": "total"}, now.time)
            memory.add(usage.working_set, labels, now.time)
        for interface in reading.network or ():
            for field, family in network.items():
                family.add(getattr(interface, field), whole | {"interface": interface.name}, now.time)
    return "".join(family.text() for family in (cpu, memory, *network.values()))


_NETWORK = (
    ("received", "receive_bytes", "bytes received"),
    ("receive_errors", "receive_errors", "errors encountered while receiving"),
    ("sent", "transmit_bytes", "bytes transmitted"),
    ("send_errors", "transmit_errors", "errors encountered while transmitting"),
)


def _of(reading: PodReading) -> dict[str, str]:
    meta = reading.pod.metadata
    return {"namespace": meta.namespace, "pod": meta.name}


def _of_run(run: Container, where: str) -> dict[str, str]:
    return {"container": run.key.name, "id": f"{where}/{run.key.id}", "image": run.image, "name": run.key.id}


def probes(counts: Iterable[Count]) -> str:
    text = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result."
    family = _Family("prober_probe_total", "counter", text)
    for count in counts:
        family.add(count.times, dict(_labels(count)))
    return family.text()


def _labels(count: Count) -> Iterator[tuple[str, str]]:
    yield from (("namespace", count.namespace), ("pod", count.pod), ("pod_uid", count.pod_uid))
    yield from (("container", count.container), ("probe_type", count.kind.value), ("result", count.result))
