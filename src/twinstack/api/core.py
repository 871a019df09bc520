"""Types of core/v1."""

from __future__ import annotations

from typing import Any

import msgspec

from twinstack.api.meta import Condition, Object, ObjectReference, Struct


class ServicePort(Struct):
    name: str = ""
    protocol: str = ""
    app_protocol: str | None = None
    port: int = 0
    target_port: int | str = 0
    node_port: int = 0


class ClientIPConfig(Struct):
    timeout_seconds: int | None = None


class SessionAffinityConfig(Struct):
    client_ip: ClientIPConfig | None = None


class ServiceSpec(Struct):
    """Every field of the API, so that a Service survives decode and encode."""

    ports: list[ServicePort] = []
    selector: dict[str, str] | None = None
    cluster_ip: str = ""
    cluster_ips: list[str] = []
    type: str = ""
    external_ips: list[str] = []
    session_affinity: str = ""
    session_affinity_config: SessionAffinityConfig | None = None
    load_balancer_ip: str = ""
    load_balancer_source_ranges: list[str] = []
    load_balancer_class: str | None = None
    allocate_load_balancer_node_ports: bool | None = None
    external_name: str = ""
    external_traffic_policy: str = ""
    internal_traffic_policy: str | None = None
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    ip_family_policy: str | None = None
    ip_families: list[str] = []
    traffic_distribution: str | None = None


class PortStatus(Struct):
    port: int = 0
    protocol: str = ""
    error: str | None = None


class LoadBalancerIngress(Struct):
    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None
    ports: list[PortStatus] = []


class LoadBalancerStatus(Struct):
    ingress: list[LoadBalancerIngress] = []


class ServiceStatus(Struct):
    load_balancer: LoadBalancerStatus = msgspec.field(default_factory=LoadBalancerStatus)
    conditions: list[Condition] = []


class Service(Object):
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)
    status: ServiceStatus = msgspec.field(default_factory=ServiceStatus)


class ContainerPort(Struct):
    name: str = ""
    host_port: int = 0
    container_port: int = 0
    protocol: str = "TCP"
    host_ip: str = ""


class ObjectFieldSelector(Struct):
    api_version: str = ""
    field_path: str = ""


class EnvVarSource(Struct):
    field_ref: ObjectFieldSelector | None = None
    config_map_key_ref: dict[str, Any] | None = None
    secret_key_ref: dict[str, Any] | None = None
    resource_field_ref: dict[str, Any] | None = None


class EnvVar(Struct):
    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class Container(Struct):
    name: str = ""
    image: str = ""
    image_pull_policy: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    ports: list[ContainerPort] = []
    env: list[EnvVar] = []
    env_from: list[dict[str, Any]] = []
    resources: dict[str, Any] = {}
    resize_policy: list[dict[str, Any]] = []
    volume_mounts: list[dict[str, Any]] = []
    volume_devices: list[dict[str, Any]] = []
    readiness_probe: dict[str, Any] | None = None
    liveness_probe: dict[str, Any] | None = None
    startup_probe: dict[str, Any] | None = None
    lifecycle: dict[str, Any] | None = None
    restart_policy: str | None = None
    restart_policy_rules: list[dict[str, Any]] = []
    security_context: dict[str, Any] | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container):
    """One that a running pod was given."""

    target_container_name: str = ""


class Toleration(Struct):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None

    def tolerates(self, taint: Taint) -> bool:
        """Whether it is for this taint. An empty key with Exists is for all, an empty effect for every effect."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        if self.operator == "Exists":
            return True
        return self.key != "" and self.operator in ("", "Equal") and self.value == taint.value


class HostAlias(Struct):
    ip: str = ""
    hostnames: list[str] = []


class PodSpec(Struct):
    node_name: str = ""
    node_selector: dict[str, str] = {}
    containers: list[Container] = []
    init_containers: list[Container] = []
    ephemeral_containers: list[EphemeralContainer] = []
    volumes: list[dict[str, Any]] = []
    image_pull_secrets: list[dict[str, Any]] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int | None = None
    active_deadline_seconds: int | None = None
    dns_policy: str = ""
    service_account_name: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    host_users: bool | None = None
    resources: dict[str, Any] | None = None
    share_process_namespace: bool | None = None
    security_context: dict[str, Any] | None = None
    dns_config: dict[str, Any] | None = None
    hostname: str = ""
    hostname_override: str | None = None
    set_hostname_as_fqdn: bool | None = msgspec.field(default=None, name="setHostnameAsFQDN")
    subdomain: str = ""
    enable_service_links: bool | None = None
    host_aliases: list[HostAlias] = []
    tolerations: list[Toleration] = []
    affinity: dict[str, Any] | None = None
    topology_spread_constraints: list[dict[str, Any]] = []
    priority: int = 0
    priority_class_name: str = ""
    preemption_policy: str = ""
    overhead: dict[str, Any] = {}
    scheduler_name: str = ""
    scheduling_gates: list[dict[str, Any]] = []
    readiness_gates: list[dict[str, Any]] = []


class PodIP(Struct):
    ip: str = ""


class ContainerStateWaiting(Struct):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(Struct):
    started_at: str | None = None


class ContainerStateTerminated(Struct, omit_defaults=False):
    exit_code: int = 0
    reason: str = ""
    message: str | msgspec.UnsetType = msgspec.UNSET
    signal: int | msgspec.UnsetType = msgspec.UNSET
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str | msgspec.UnsetType = msgspec.UNSET


class ContainerState(Struct):
    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Struct, omit_defaults=False):
    """The API marks name, ready, restartCount, image and imageID as required: never left out."""

    name: str = ""
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = ""
    container_id: str | msgspec.UnsetType = msgspec.UNSET
    started: bool | msgspec.UnsetType = msgspec.UNSET
    volume_mounts: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    resources: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    allocated_resources: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    user: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    stop_signal: str | msgspec.UnsetType = msgspec.UNSET


class PodStatus(Struct):
    phase: str = ""
    conditions: list[Condition] = []
    message: str = ""
    reason: str = ""
    host_ip: str = ""
    host_ips: list[PodIP] = []
    pod_ip: str = ""
    pod_ips: list[PodIP] = []
    start_time: str | None = None
    qos_class: str = msgspec.field(default="", name="qosClass")
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    ephemeral_container_statuses: list[ContainerStatus] = []
    resources: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    allocated_resources: dict[str, str] = {}
    observed_generation: int = 0


class Pod(Object):
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def all_containers(self) -> list[Container]:
        """Of all three kinds."""
        return [*self.spec.init_containers, *self.spec.containers, *self.spec.ephemeral_containers]

    @property
    def all_container_statuses(self) -> list[ContainerStatus]:
        status = self.status
        return status.init_container_statuses + status.container_statuses + status.ephemeral_container_statuses


class Taint(Struct):
    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str | None = None


class NodeSpec(Struct):
    pod_cidr: str = ""
    pod_cidrs: list[str] = []
    provider_id: str = ""
    unschedulable: bool = False
    taints: list[Taint] = []


class NodeAddress(Struct):
    type: str = ""
    address: str = ""


class DaemonEndpoint(Struct):
    port: int = msgspec.field(default=0, name="Port")  # the API's own capital


class NodeDaemonEndpoints(Struct):
    kubelet_endpoint: DaemonEndpoint = msgspec.field(default_factory=DaemonEndpoint)


class NodeSystemInfo(Struct, omit_defaults=False):
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    kernel_version: str = ""
    os_image: str = ""
    container_runtime_version: str = ""
    kubelet_version: str = ""
    kube_proxy_version: str = ""
    operating_system: str = ""
    architecture: str = ""


class ContainerImage(Struct):
    names: list[str] = []
    size_bytes: int = 0


class NodeRuntimeHandler(Struct, omit_defaults=False):
    """The handler with the empty name is what containers get whose pod asks for none."""

    name: str = ""
    features: dict[str, bool] = {}


class NodeStatus(Struct):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: list[Condition] = []
    addresses: list[NodeAddress] = []
    daemon_endpoints: NodeDaemonEndpoints = msgspec.field(default_factory=NodeDaemonEndpoints)
    node_info: NodeSystemInfo = msgspec.field(default_factory=NodeSystemInfo)
    runtime_handlers: list[NodeRuntimeHandler] = []
    declared_features: list[str] = []
    features: dict[str, bool] = {}
    images: list[ContainerImage] = []


class Node(Object):
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class NamespaceSpec(Struct):
    finalizers: list[str] = []


class NamespaceStatus(Struct):
    phase: str = ""
    conditions: list[Condition] = []


class Namespace(Object):
    spec: NamespaceSpec = msgspec.field(default_factory=NamespaceSpec)
    status: NamespaceStatus = msgspec.field(default_factory=NamespaceStatus)


class ServiceAccount(Object):
    secrets: list[ObjectReference] = []
    automount_service_account_token: bool | None = None


class ConfigMap(Object):
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool | None = None


class PersistentVolumeClaimStatus(Struct):
    phase: str = ""


class PersistentVolumeClaim(Object):
    status: PersistentVolumeClaimStatus = msgspec.field(default_factory=PersistentVolumeClaimStatus)


class ResourceQuotaSpec(Struct):
    """The scopes are read where objects are counted (`api.quotas.scopes`)."""

    hard: dict[str, str] = {}


class ResourceQuotaStatus(Struct):
    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class ResourceQuota(Object):
    spec: ResourceQuotaSpec = msgspec.field(default_factory=ResourceQuotaSpec)
    status: ResourceQuotaStatus = msgspec.field(default_factory=ResourceQuotaStatus)


class Secret(Object):
    type: str = ""
    data: dict[str, str] = {}
    immutable: bool | None = None


class EventSource(Struct):
    component: str = ""
    host: str = ""


class Event(Object):
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    source: EventSource = msgspec.field(default_factory=EventSource)
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int = 0
    type: str = ""
    event_time: str | None = None
    action: str = ""
    reporting_component: str = ""
    reporting_instance: str = ""


class PodTemplateSpec(Struct):
    """Read for labels only; the template itself is carried as a plain dict so that nothing is lost."""

    metadata: dict[str, Any] = {}
    spec: dict[str, Any] = {}
