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
    ("", "limitranges"): "quotas.LimitRangeStrategy",
    ("", "namespaces"): "namespaces.NamespaceStrategy",
    ("", "nodes"): "nodes.NodeStrategy",
    ("", "persistentvolumeclaims"): "claims.PersistentVolumeClaimStrategy",
    ("", "persistentvolumes"): "claims.PersistentVolumeStrategy",
    ("", "pods"): "pods.PodStrategy",
    ("", "podtemplates"): "replicationcontrollers.PodTemplateStrategy",
    ("", "replicationcontrollers"): "replicationcontrollers.ReplicationControllerStrategy",
    ("", "resourcequotas"): "quotas.ResourceQuotaStrategy",
    ("", "secrets"): "configuration.SecretStrategy",
    ("", "serviceaccounts"): "configuration.ServiceAccountStrategy",
    ("", "services"): "services.ServiceStrategy",
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): "admissions.PolicyStrategy",
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): "admissions.PolicyBindingStrategy",
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): "admissions.MutatingWebhookStrategy",
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): "admissions.PolicyStrategy",
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): "admissions.PolicyBindingStrategy",
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): "admissions.WebhookStrategy",
    ("apiregistration.k8s.io", "apiservices"): "apiservices.APIServiceStrategy",
    ("apiextensions.k8s.io", "customresourcedefinitions"): "customresourcedefinitions.DefinitionStrategy",
    ("apps", "controllerrevisions"): "statefulsets.ControllerRevisionStrategy",
    ("apps", "daemonsets"): "daemonsets.DaemonSetStrategy",
    ("apps", "deployments"): "workloads.DeploymentStrategy",
    ("apps", "replicasets"): "workloads.ReplicaSetStrategy",
    ("apps", "statefulsets"): "statefulsets.StatefulSetStrategy",
    ("autoscaling", "horizontalpodautoscalers"): "autoscalers.AutoscalerStrategy",
    ("autoscaling/v1", "horizontalpodautoscalers"): "autoscalers.AutoscalerV1Strategy",
    ("batch", "cronjobs"): "jobs.CronJobStrategy",
    ("batch", "jobs"): "jobs.JobStrategy",
    ("certificates.k8s.io", "certificatesigningrequests"): "certificates.CertificateSigningRequestStrategy",
    ("coordination.k8s.io", "leases"): "leases.LeaseStrategy",
    ("discovery.k8s.io", "endpointslices"): "endpointslices.EndpointSliceStrategy",
    ("events.k8s.io", "events"): "events.EventStrategy",
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): "flowcontrol.FlowSchemaStrategy",
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): "flowcontrol.PriorityLevelStrategy",
    ("networking.k8s.io", "ingressclasses"): "ingresses.IngressClassStrategy",
    ("networking.k8s.io", "ingresses"): "ingresses.IngressStrategy",
    ("networking.k8s.io", "ipaddresses"): "ipaddresses.IPAddressStrategy",
    ("networking.k8s.io", "networkpolicies"): "networkpolicies.NetworkPolicyStrategy",
    ("networking.k8s.io", "servicecidrs"): "servicecidrs.ServiceCIDRStrategy",
    ("node.k8s.io", "runtimeclasses"): "runtimeclasses.RuntimeClassStrategy",
    ("policy", "poddisruptionbudgets"): "disruptionbudgets.PodDisruptionBudgetStrategy",
    ("rbac.authorization.k8s.io", "clusterrolebindings"): "rbac.BindingStrategy",
    ("rbac.authorization.k8s.io", "clusterroles"): "rbac.RoleStrategy",
    ("rbac.authorization.k8s.io", "rolebindings"): "rbac.BindingStrategy",
    ("rbac.authorization.k8s.io", "roles"): "rbac.RoleStrategy",
    ("scheduling.k8s.io", "priorityclasses"): "priorities.PriorityClassStrategy",
    ("storage.k8s.io", "csidrivers"): "storage.CSIDriverStrategy",
    ("storage.k8s.io", "csinodes"): "storage.CSINodeStrategy",
    ("storage.k8s.io", "csistoragecapacities"): "storage.CSIStorageCapacityStrategy",
    ("storage.k8s.io", "storageclasses"): "storage.StorageClassStrategy",
    ("storage.k8s.io", "volumeattachments"): "storage.VolumeAttachmentStrategy",
    ("storage.k8s.io", "volumeattributesclasses"): "storage.VolumeAttributesClassStrategy",
}


def strategy_for(resource: Resource) -> Strategy:
    """The strategy of a resource; a kind without rules of its own has the plain one."""
    if resource.custom is not None:
        return resource.custom.keep("strategy", lambda: _custom(resource))
    return _strategy(resource.group, resource.version, resource.plural)


def _custom(resource: Resource) -> Strategy:
    from twinstack.server.strategy.customresources import CustomStrategy

    return CustomStrategy(resource)


@functools.cache
def _strategy(group: str, version: str, plural: str) -> Strategy:
    named = _STRATEGIES.get((f"{group}/{version}", plural)) or _STRATEGIES.get((group, plural), "base.Strategy")
    module, _, name = named.partition(".")
    found: type[Strategy] = getattr(importlib.import_module(f"twinstack.server.strategy.{module}"), name)
    return found()
