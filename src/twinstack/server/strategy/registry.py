"""Which strategy a resource has. Strategies are imported when first asked for."""

from __future__ import annotations

import functools
import importlib

from twinstack.api.resources import Resource
from twinstack.server.strategy.base import Strategy

_STRATEGIES = {
    ("", "configmaps"): "configuration.ConfigMapStrategy",
    ("", "endpoints"): "endpoints.EndpointsStrategy",
    ("", "events"): "events.EventStrategy",
    ("", "namespaces"): "namespaces.NamespaceStrategy",
    ("", "nodes"): "nodes.NodeStrategy",
    ("", "pods"): "pods.PodStrategy",
    ("", "secrets"): "configuration.SecretStrategy",
    ("", "serviceaccounts"): "configuration.ServiceAccountStrategy",
    ("", "services"): "services.ServiceStrategy",
    ("apps", "deployments"): "workloads.DeploymentStrategy",
    ("apps", "replicasets"): "workloads.ReplicaSetStrategy",
    ("coordination.k8s.io", "leases"): "leases.LeaseStrategy",
    ("discovery.k8s.io", "endpointslices"): "endpointslices.EndpointSliceStrategy",
    ("events.k8s.io", "events"): "events.EventStrategy",
    ("networking.k8s.io", "ipaddresses"): "ipaddresses.IPAddressStrategy",
    ("networking.k8s.io", "servicecidrs"): "servicecidrs.ServiceCIDRStrategy",
}


def strategy_for(resource: Resource) -> Strategy:
    """The strategy of a resource; a kind without rules of its own has the plain one."""
    return _strategy(resource.group, resource.plural)


@functools.cache
def _strategy(group: str, plural: str) -> Strategy:
    module, _, name = _STRATEGIES.get((group, plural), "base.Strategy").partition(".")
    found: type[Strategy] = getattr(importlib.import_module(f"twinstack.server.strategy.{module}"), name)
    return found()
