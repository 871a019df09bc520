"""Which controllers run: the names and rules of kube-controller-manager's `--controllers`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Names before 1.28, still understood.
ALIASES = {
    "endpoint": "endpoints-controller",
    "endpointslice": "endpointslice-controller",
    "endpointslicemirroring": "endpointslice-mirroring-controller",
    "nodeipam": "node-ipam-controller",
    "deployment": "deployment-controller",
    "replicaset": "replicaset-controller",
    "replicationcontroller": "replicationcontroller-controller",
    "job": "job-controller",
    "cronjob": "cronjob-controller",
    "daemonset": "daemonset-controller",
    "statefulset": "statefulset-controller",
    "ttl-after-finished": "ttl-after-finished-controller",
    "disruption": "disruption-controller",
    "namespace": "namespace-controller",
    "serviceaccount": "serviceaccount-controller",
    "root-ca-cert-publisher": "root-ca-certificate-publisher-controller",
    "nodelifecycle": "node-lifecycle-controller",
    "garbagecollector": "garbage-collector-controller",
    "ttl": "ttl-controller",
    "podgc": "pod-garbage-collector-controller",
}


def select(text: str, known: Sequence[str]) -> list[str]:
    """The names that `text` enables: `*` all, `name` one, `-name` not that one; without `*` only those named.

    Raises ValueError for a name that there is not.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    enabled = {_canonical(entry, known) for entry in entries if entry != "*" and not entry.startswith("-")}
    disabled = {_canonical(entry[1:], known) for entry in entries if entry.startswith("-")}
    return [name for name in known if name in enabled or ("*" in entries and name not in disabled)]


def _canonical(name: str, known: Collection[str]) -> str:
    canonical = ALIASES.get(name, name)
    if canonical not in known:
        raise ValueError(f'"{name}" is not in the list of known controllers: {", ".join(known)}')
    return canonical
