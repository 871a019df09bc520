"""Every namespace has a ConfigMap `kube-root-ca.crt`, by which Pods know the API server (KEP-1205)."""

from __future__ import annotations

from typing import Any

from twinstack.api.core import ConfigMap
from twinstack.api.kinds import CONFIG_MAPS
from twinstack.controllers.context import Context
from twinstack.controllers.everynamespace import EveryNamespaceController

_DESCRIPTION = {
    "kubernetes.io/description": (
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as "
        "the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of "
        "Kubernetes clusters."
    )
}


class RootCA:
    """`certificate` is the PEM bundle of `--root-ca-file`."""

    kind = CONFIG_MAPS
    name = "kube-root-ca.crt"

    def __init__(self, certificate: str) -> None:
        self._data = {"ca.crt": certificate}

    def body(self) -> dict[str, Any]:
        return {"metadata": {"annotations": _DESCRIPTION}, "data": self._data}

    def mend(self, obj: ConfigMap) -> dict[str, Any] | None:
        """Keys that others have added are taken out: the whole of the map is promised."""
        described = obj.metadata.annotations.items() >= _DESCRIPTION.items()
        if obj.data == self._data and described:
            return None
        foreign: dict[str, str | None] = dict.fromkeys(obj.data)
        return {"metadata": {"annotations": _DESCRIPTION}, "data": foreign | self._data}


def controller(context: Context, certificate: str) -> EveryNamespaceController[ConfigMap]:
    return EveryNamespaceController(context, RootCA(certificate))
