"""Which Services a pod's containers get variables of, kept current by one watch.

Of each Service only what the variables need is kept: half a kilobyte instead of three.
"""

from __future__ import annotations

from twinstack.api import core
from twinstack.api.kinds import SERVICES
from twinstack.client.reflector import Reflector
from twinstack.client.rest import Client
from twinstack.node.environment import Link, link_of

_MASTER = ("default", "kubernetes")  # every pod knows the API server


class ServiceLinks(Reflector[core.Service]):
    """The links of all Services that have an address."""

    def __init__(self, client: Client) -> None:
        super().__init__(client, SERVICES)
        self._links: dict[str, dict[str, Link]] = {}  # by namespace and name

    def of(self, pod: core.Pod) -> list[Link]:
        """Those of the pod's namespace, unless it wants none, and the API server's."""
        master = self._links.get(_MASTER[0], {}).get(_MASTER[1])
        found = {master.name: master} if master is not None else {}
        if pod.spec.enable_service_links is not False:
            found |= self._links.get(pod.metadata.namespace, {})
        return list(found.values())

    def put(self, obj: core.Service) -> None:
        link = link_of(obj)
        if link is None:
            self.gone(obj)
        else:
            self._links.setdefault(obj.metadata.namespace, {})[link.name] = link

    def gone(self, last: core.Service) -> None:
        self._remove(last.metadata.namespace, last.metadata.name)

    def complete(self, seen: set[str], version: int) -> None:
        known = [(namespace, name) for namespace, links in self._links.items() for name in links]
        for namespace, name in known:
            if f"{namespace}/{name}" not in seen:
                self._remove(namespace, name)

    def forget(self) -> None:
        self._links.clear()

    def _remove(self, namespace: str, name: str) -> None:
        links = self._links.get(namespace)
        if links is not None and links.pop(name, None) is not None and not links:
            del self._links[namespace]
