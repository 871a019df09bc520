"""The spec of a Pod in the form of the API server's own structures, which its message about a refused change shows.

That form has other names and another order of fields than JSON has, shows what is absent, and keeps the host's
namespaces in the security context.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

JSON = dict[str, Any]

# A type a line, its fields in order. After a name: nothing, an absent value is "" (text); `#` 0; `?` false; `*` null.
# `[]Type` is a list, `*Type` a structure or null, `:Type` always a structure, `=name` what JSON calls the field when
# it is not the same name in other letters.
_CONTAINER = (
    "Name Image Command* Args* WorkingDir Ports[]ContainerPort EnvFrom[]EnvFromSource Env[]EnvVar "
    "Resources:ResourceRequirements ResizePolicy[]ContainerResizePolicy RestartPolicy* "
    "RestartPolicyRules[]ContainerRestartRule VolumeMounts[]VolumeMount VolumeDevices[]VolumeDevice "
    "LivenessProbe*Probe ReadinessProbe*Probe StartupProbe*Probe Lifecycle*Lifecycle TerminationMessagePath "
    "TerminationMessagePolicy ImagePullPolicy SecurityContext*SecurityContext Stdin? StdinOnce? TTY?"
)
_TYPES = f"""
PodSpec Volumes[]Volume InitContainers[]Container Containers[]Container EphemeralContainers[]EphemeralContainer \
RestartPolicy TerminationGracePeriodSeconds* ActiveDeadlineSeconds* DNSPolicy NodeSelector* ServiceAccountName \
AutomountServiceAccountToken* NodeName SecurityContext:PodSecurityContext ImagePullSecrets[]Reference Hostname \
Subdomain SetHostnameAsFQDN* Affinity*Affinity SchedulerName Tolerations[]Toleration HostAliases[]HostAlias \
PriorityClassName Priority* PreemptionPolicy* DNSConfig*PodDNSConfig ReadinessGates[]PodReadinessGate \
RuntimeClassName* Overhead* EnableServiceLinks* TopologySpreadConstraints[]TopologySpreadConstraint OS*Reference \
SchedulingGates[]Reference ResourceClaims[]PodResourceClaim Resources*ResourceRequirements HostnameOverride* \
SchedulingGroup*PodSchedulingGroup
Container {_CONTAINER}
EphemeralContainer {_CONTAINER} TargetContainerName
Reference Name
PodSecurityContext HostNetwork? HostPID? HostIPC? ShareProcessNamespace* HostUsers* SELinuxOptions*SELinuxOptions \
WindowsOptions*WindowsOptions RunAsUser* RunAsGroup* RunAsNonRoot* SupplementalGroups* SupplementalGroupsPolicy* \
FSGroup* FSGroupChangePolicy* Sysctls[]Pair SeccompProfile*Profile AppArmorProfile*Profile SELinuxChangePolicy*
SecurityContext Capabilities*Capabilities Privileged* SELinuxOptions*SELinuxOptions WindowsOptions*WindowsOptions \
RunAsUser* RunAsGroup* RunAsNonRoot* ReadOnlyRootFilesystem* AllowPrivilegeEscalation* ProcMount* \
SeccompProfile*Profile AppArmorProfile*Profile
Capabilities Add* Drop*
SELinuxOptions User Role Type Level
WindowsOptions GMSACredentialSpecName* GMSACredentialSpec* RunAsUserName* HostProcess*
Profile Type LocalhostProfile*
Pair Name Value
ContainerPort Name HostPort# ContainerPort# Protocol HostIP
EnvFromSource Prefix ConfigMapRef*OptionalReference SecretRef*OptionalReference
OptionalReference Name Optional*
EnvVar Name Value ValueFrom*EnvVarSource
EnvVarSource FieldRef*FieldRef ResourceFieldRef*ResourceFieldRef ConfigMapKeyRef*KeyRef SecretKeyRef*KeyRef \
FileKeyRef*FileKeyRef
FieldRef APIVersion FieldPath
ResourceFieldRef ContainerName Resource Divisor
KeyRef Name Key Optional*
FileKeyRef VolumeName Path Key Optional*
ResourceRequirements Limits* Requests* Claims[]ResourceClaim
ResourceClaim Name Request
ContainerResizePolicy ResourceName RestartPolicy
ContainerRestartRule Action ExitCodes*ExitCodes
ExitCodes Operator Values*
VolumeMount Name ReadOnly? RecursiveReadOnly* MountPath SubPath MountPropagation* SubPathExpr
VolumeDevice Name DevicePath
Probe Exec*Exec HTTPGet*HTTPGet TCPSocket*TCPSocket GRPC*GRPC InitialDelaySeconds# TimeoutSeconds# PeriodSeconds# \
SuccessThreshold# FailureThreshold# TerminationGracePeriodSeconds*
Lifecycle PostStart*LifecycleHandler PreStop*LifecycleHandler StopSignal*
LifecycleHandler Exec*Exec HTTPGet*HTTPGet TCPSocket*TCPSocket Sleep*Sleep
Exec Command*
HTTPGet Path Port# Host Scheme HTTPHeaders[]Pair
TCPSocket Port# Host
GRPC Port# Service*
Sleep Seconds#
Affinity NodeAffinity*NodeAffinity PodAffinity*PodAffinity PodAntiAffinity*PodAffinity
NodeAffinity RequiredDuringSchedulingIgnoredDuringExecution*NodeSelector \
PreferredDuringSchedulingIgnoredDuringExecution[]PreferredSchedulingTerm
NodeSelector NodeSelectorTerms[]NodeSelectorTerm
NodeSelectorTerm MatchExpressions[]Requirement MatchFields[]Requirement
Requirement Key Operator Values*
PreferredSchedulingTerm Weight# Preference:NodeSelectorTerm
PodAffinity RequiredDuringSchedulingIgnoredDuringExecution[]PodAffinityTerm \
PreferredDuringSchedulingIgnoredDuringExecution[]WeightedPodAffinityTerm
WeightedPodAffinityTerm Weight# PodAffinityTerm:PodAffinityTerm
PodAffinityTerm LabelSelector* Namespaces* TopologyKey NamespaceSelector* MatchLabelKeys* MismatchLabelKeys*
Toleration Key Operator Value Effect TolerationSeconds*
HostAlias IP Hostnames*
PodDNSConfig Nameservers* Searches* Options[]DNSOption
DNSOption Name Value*
PodReadinessGate ConditionType
TopologySpreadConstraint MaxSkew# TopologyKey WhenUnsatisfiable LabelSelector* MinDomains* NodeAffinityPolicy* \
NodeTaintsPolicy* MatchLabelKeys*
PodResourceClaim Name ResourceClaimName* ResourceClaimTemplateName*
PodSchedulingGroup PodGroupName*
Volume Name HostPath*HostPath EmptyDir*EmptyDir GCEPersistentDisk*GCEDisk AWSElasticBlockStore*CloudDisk \
GitRepo*GitRepo Secret*SecretVolume NFS*NFS ISCSI*ISCSI Glusterfs*Glusterfs PersistentVolumeClaim*ClaimVolume RBD*RBD \
Quobyte*Quobyte FlexVolume*FlexVolume Cinder*Cinder CephFS*CephFS Flocker*Flocker DownwardAPI*DownwardAPIVolume FC*FC \
AzureFile*AzureFile ConfigMap*ConfigMapVolume VsphereVolume*VsphereVolume AzureDisk*AzureDisk \
PhotonPersistentDisk*PhotonDisk Projected*Projected PortworxVolume*Portworx ScaleIO*ScaleIO StorageOS*StorageOS \
CSI*CSI Ephemeral*Ephemeral Image*ImageVolume
HostPath Path Type*
EmptyDir Medium SizeLimit*
GCEDisk PDName FSType Partition# ReadOnly?
CloudDisk VolumeID FSType Partition# ReadOnly?
GitRepo Repository Revision Directory
SecretVolume SecretName Items[]KeyToPath DefaultMode* Optional*
KeyToPath Key Path Mode*
NFS Server Path ReadOnly?
ISCSI TargetPortal IQN Lun# ISCSIInterface FSType ReadOnly? Portals* DiscoveryCHAPAuth?=chapAuthDiscovery \
SessionCHAPAuth?=chapAuthSession SecretRef*Reference InitiatorName*
Glusterfs EndpointsName=endpoints Path ReadOnly?
ClaimVolume ClaimName ReadOnly?
RBD CephMonitors*=monitors RBDImage=image FSType RBDPool=pool RadosUser=user Keyring SecretRef*Reference ReadOnly?
Quobyte Registry Volume ReadOnly? User Group Tenant
FlexVolume Driver FSType SecretRef*Reference ReadOnly? Options*
Cinder VolumeID FSType ReadOnly? SecretRef*Reference
CephFS Monitors* Path User SecretFile SecretRef*Reference ReadOnly?
Flocker DatasetName DatasetUUID
DownwardAPIVolume Items[]DownwardAPIFile DefaultMode*
DownwardAPIFile Path FieldRef*FieldRef ResourceFieldRef*ResourceFieldRef Mode*
FC TargetWWNs* Lun* FSType ReadOnly? WWIDs*
AzureFile SecretName ShareName ReadOnly?
ConfigMapVolume Name Items[]KeyToPath DefaultMode* Optional*
VsphereVolume VolumePath FSType StoragePolicyName StoragePolicyID
AzureDisk DiskName DataDiskURI=diskURI CachingMode* FSType* ReadOnly* Kind*
PhotonDisk PdID FSType
Projected Sources[]Projection DefaultMode*
Projection Secret*Keys DownwardAPI*DownwardAPIFiles ConfigMap*Keys ServiceAccountToken*TokenFile \
ClusterTrustBundle*TrustBundle PodCertificate*PodCertificate
Keys Name Items[]KeyToPath Optional*
DownwardAPIFiles Items[]DownwardAPIFile
TokenFile Audience ExpirationSeconds# Path
TrustBundle Name* SignerName* LabelSelector* Optional* Path
PodCertificate SignerName KeyType MaxExpirationSeconds* CredentialBundlePath KeyPath CertificateChainPath \
UserAnnotations*
Portworx VolumeID FSType ReadOnly?
ScaleIO Gateway System SecretRef*Reference SSLEnabled? ProtectionDomain StoragePool StorageMode VolumeName FSType \
ReadOnly?
StorageOS VolumeName VolumeNamespace FSType ReadOnly? SecretRef*Reference
CSI Driver ReadOnly* FSType* VolumeAttributes* NodePublishSecretRef*Reference
Ephemeral VolumeClaimTemplate*
ImageVolume Reference PullPolicy
"""
_ABSENT: dict[str, Any] = {"": "", "#": 0, "?": False, "*": None}
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
_TAGGED = ("matchLabels", "matchExpressions", "key", "operator", "values")  # selectors are the same in both forms


class _Field(NamedTuple):
    name: str
    json: str  # in small letters
    shape: str  # "", "#", "?", "*", "[]" or ":"
    type: str = ""


def pod_spec(spec: JSON) -> JSON:
    """The internal form of the spec of a Pod as it is stored."""
    host = {name: spec[name] for name in _HOST_NAMESPACES if name in spec}
    named = {"serviceAccountName": spec.get("serviceAccountName") or spec.get("serviceAccount", "")}
    return _internal(spec | named | {"securityContext": host | (spec.get("securityContext") or {})}, "PodSpec")


def _internal(value: JSON, type_name: str) -> JSON:
    given = {name.lower(): item for name, item in value.items()}
    return {field.name: _value(given.get(field.json), field) for field in _table()[type_name]}


def _value(value: Any, field: _Field) -> Any:
    if field.shape == "[]":
        return [_internal(item, field.type) for item in value] if value else None
    if field.type:
        return None if value is None and field.shape == "*" else _internal(value or {}, field.type)
    return _ABSENT[field.shape] if value is None else _ordered(value)


def _ordered(value: Any) -> Any:
    """Maps by key, as Go prints them; selectors, which are structures, by their fields."""
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    rank = {name: index for index, name in enumerate(_TAGGED)} if value.keys() <= set(_TAGGED) else {}
    return {name: _ordered(value[name]) for name in sorted(value, key=lambda name: (rank.get(name, 0), name))}


@functools.cache
def _table() -> dict[str, list[_Field]]:
    lines = (line.split() for line in _TYPES.strip().splitlines())
    return {words[0]: [_field(word) for word in words[1:]] for words in lines}


def _field(word: str) -> _Field:
    word, _, other = word.partition("=")
    for shape in ("[]", "*", ":", "#", "?"):
        name, found, type_name = word.partition(shape)
        if found:
            return _Field(name, (other or name).lower(), shape, type_name)
    return _Field(word, (other or word).lower(), "")
