"""Resources paired with their typed objects: what components hand to the client."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from twinstack.api.apps import ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet
from twinstack.api.batch import CronJob, Job
from twinstack.api.certificates import CertificateSigningRequest
from twinstack.api.coordination import Lease
from twinstack.api.core import (
    ConfigMap,
    Event,
    Namespace,
    Node,
    PersistentVolumeClaim,
    Pod,
    ResourceQuota,
    Secret,
    Service,
    ServiceAccount,
)
from twinstack.api.discovery import EndpointSlice
from twinstack.api.endpoints import Endpoints
from twinstack.api.meta import Object
from twinstack.api.networking import IPAddress, ServiceCIDR
from twinstack.api.policy import PodDisruptionBudget
from twinstack.api.rbac import ClusterRole
from twinstack.api.replication import ReplicationController
from twinstack.api.resources import Resource, resource

T = TypeVar("T", bound=Object)


class Kind(NamedTuple, Generic[T]):
    """A resource and the type that its objects are read as."""

    resource: Resource
    type: type[T]


CONFIG_MAPS = Kind(resource("", "configmaps"), ConfigMap)
ENDPOINTS = Kind(resource("", "endpoints"), Endpoints)
EVENTS = Kind(resource("", "events"), Event)
NAMESPACES = Kind(resource("", "namespaces"), Namespace)
NODES = Kind(resource("", "nodes"), Node)
PERSISTENT_VOLUME_CLAIMS = Kind(resource("", "persistentvolumeclaims"), PersistentVolumeClaim)
PODS = Kind(resource("", "pods"), Pod)
REPLICATION_CONTROLLERS = Kind(resource("", "replicationcontrollers"), ReplicationController)
RESOURCE_QUOTAS = Kind(resource("", "resourcequotas"), ResourceQuota)
SECRETS = Kind(resource("", "secrets"), Secret)
SERVICE_ACCOUNTS = Kind(resource("", "serviceaccounts"), ServiceAccount)
SERVICES = Kind(resource("", "services"), Service)
DEPLOYMENTS = Kind(resource("apps", "deployments"), Deployment)
REPLICA_SETS = Kind(resource("apps", "replicasets"), ReplicaSet)
DAEMON_SETS = Kind(resource("apps", "daemonsets"), DaemonSet)
STATEFUL_SETS = Kind(resource("apps", "statefulsets"), StatefulSet)
CONTROLLER_REVISIONS = Kind(resource("apps", "controllerrevisions"), ControllerRevision)
JOBS = Kind(resource("batch", "jobs"), Job)
CRON_JOBS = Kind(resource("batch", "cronjobs"), CronJob)
ENDPOINT_SLICES = Kind(resource("discovery.k8s.io", "endpointslices"), EndpointSlice)
SERVICE_CIDRS = Kind(resource("networking.k8s.io", "servicecidrs"), ServiceCIDR)
IP_ADDRESSES = Kind(resource("networking.k8s.io", "ipaddresses"), IPAddress)
CERTIFICATE_SIGNING_REQUESTS = Kind(
    resource("certificates.k8s.io", "certificatesigningrequests"), CertificateSigningRequest
)
CLUSTER_ROLES = Kind(resource("rbac.authorization.k8s.io", "clusterroles"), ClusterRole)
POD_DISRUPTION_BUDGETS = Kind(resource("policy", "poddisruptionbudgets"), PodDisruptionBudget)
CSI_NODES = Kind(resource("storage.k8s.io", "csinodes"), Object)
LEASES = Kind(resource("coordination.k8s.io", "leases"), Lease)
