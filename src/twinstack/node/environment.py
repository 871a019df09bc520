"""What a container finds around it: variables, expanded command, host name, /etc/hosts, /etc/resolv.conf. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twinstack.api import core
from twinstack.api.gotext import go_quote
from twinstack.ip import Address, IPFamily
from twinstack.node import resources

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOSTNAME_LENGTH = 63  # Linux allows one more
NAMESERVERS, SEARCHES = 3, 32  # more than these no resolver looks at

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")  # `$$` or `$(NAME)`
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']*)'\]")

HOSTS_HEAD = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


class ConfigError(Exception):
    """A container cannot be made as its pod describes it (waiting reason CreateContainerConfigError)."""


class Source(NamedTuple):
    """A ConfigMap or Secret that variables come from; `kind` is `configMap` or `secret`."""

    kind: str
    name: str


Sources = Mapping[Source, Mapping[str, str] | None]  # None: there is no such object


class Link(NamedTuple):
    """What variables tell of a Service: its primary address, and its ports as (name, protocol, number)."""

    name: str
    address: str
    family: IPFamily
    ports: tuple[tuple[str, str, int], ...]


class Addresses(NamedTuple):
    """Canonical text, primary family first."""

    pod: Sequence[str]
    host: Sequence[str]


class Surroundings(NamedTuple):
    """What a container's variables can be made of, besides its pod. `allocatable`: what the node has."""

    addresses: Addresses
    hostname: str = ""
    links: Iterable[Link] = ()
    objects: Sources = {}
    allocatable: Mapping[str, str] = {}


def hostname(pod: core.Pod, domain: str = "", node: str = "") -> str:
    """hostnameOverride, or spec.hostname, or the pod's name cut to what Linux takes; on the host's network the
    node's name. Raises ConfigError when the whole domain name that is asked for is too long for Linux.
    """
    if pod.spec.hostname_override:
        return pod.spec.hostname_override
    if pod.spec.host_network and node:
        return node
    name = _hostname(pod)
    if pod.spec.set_hostname_as_fqdn and pod.spec.subdomain and domain:
        name = _full_name(pod, domain)
        if len(name) > HOSTNAME_LENGTH + 1:
            raise ConfigError(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
                f"({HOSTNAME_LENGTH + 1} characters is the max, {len(name)} characters requested)"
            )
    return name


def _hostname(pod: core.Pod) -> str:
    return pod.spec.hostname_override or (pod.spec.hostname or pod.metadata.name)[:HOSTNAME_LENGTH].rstrip("-.")


def _full_name(pod: core.Pod, domain: str) -> str:
    return f"{_hostname(pod)}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{domain}"


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value; unknown names stay, and `$$` is a dollar sign (v1 Container.command)."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return values.get(name, match.group(0))

    return _REFERENCE.sub(replace, text)


def link_of(service: core.Service) -> Link | None:
    """None for one without an address or ports, which no variables tell of."""
    spec = service.spec
    if not spec.cluster_ip or spec.cluster_ip == "None" or not spec.ports:
        return None
    address = Address.parse(spec.cluster_ip)
    ports = tuple((port.name, port.protocol or "TCP", port.port) for port in spec.ports)
    return Link(service.metadata.name, str(address), address.family, ports)


def service_variables(link: Link) -> dict[str, str]:
    """`NAME_SERVICE_HOST` and its kin for one Service."""
    prefix = link.name.upper().replace("-", "_")
    host = link.address
    url_host = f"[{host}]" if link.family is IPFamily.IPV6 else host
    _, protocol, first = link.ports[0]
    values = {f"{prefix}_SERVICE_HOST": host, f"{prefix}_SERVICE_PORT": str(first)}
    for name, _, port in link.ports:
        if name:
            values[f"{prefix}_SERVICE_PORT_{name.upper().replace('-', '_')}"] = str(port)
    values[f"{prefix}_PORT"] = f"{protocol.lower()}://{url_host}:{first}"
    for _, protocol, port in link.ports:
        base = f"{prefix}_PORT_{port}_{protocol}"
        values[base] = f"{protocol.lower()}://{url_host}:{port}"
        values |= {f"{base}_PROTO": protocol.lower(), f"{base}_PORT": str(port), f"{base}_ADDR": host}
    return values


def sources(container: core.Container) -> set[Source]:
    """The objects that must be read before `variables`."""
    found = set()
    for entry in container.env_from:
        for kind in ("configMap", "secret"):
            if f"{kind}Ref" in entry:
                found.add(Source(kind, entry[f"{kind}Ref"].get("name", "")))
    for variable in container.env:
        origin = variable.value_from
        if origin is not None and origin.config_map_key_ref:
            found.add(Source("configMap", origin.config_map_key_ref.get("name", "")))
        elif origin is not None and origin.secret_key_ref:
            found.add(Source("secret", origin.secret_key_ref.get("name", "")))
    return found


def variables(pod: core.Pod, container: core.Container, around: Surroundings) -> dict[str, str]:
    """A container's environment. Raises ConfigError."""
    values = {"PATH": PATH, "HOSTNAME": around.hostname or hostname(pod)}
    for link in around.links:
        values |= service_variables(link)
    for entry in container.env_from:
        values |= _all_of(entry, around.objects, pod.metadata.namespace)
    for variable in container.env:
        value = _value(pod, container, variable, values, around)
        if value is not None:
            values[variable.name] = value
    return values


def _value(
    pod: core.Pod, container: core.Container, variable: core.EnvVar, known: Mapping[str, str], around: Surroundings
) -> str | None:
    """None: an optional key that is not there."""
    origin = variable.value_from
    if origin is None:
        return expand(variable.value, known)
    if origin.field_ref is not None:
        return field(pod, origin.field_ref.field_path, around.addresses)
    if origin.config_map_key_ref:
        return _key_of("configMap", origin.config_map_key_ref, around.objects, pod.metadata.namespace)
    if origin.secret_key_ref:
        return _key_of("secret", origin.secret_key_ref, around.objects, pod.metadata.namespace)
    if origin.resource_field_ref:
        return amount(pod, container.name, origin.resource_field_ref, around.allocatable)
    raise ConfigError(f"variable {variable.name}: this node does not know where its value is to come from")


def amount(pod: core.Pod, default: str, selector: Mapping[str, Any], allocatable: Mapping[str, str]) -> str:
    """The value of a resourceFieldRef; a limit that is not set is the pod's, or the node's. Raises ConfigError."""
    whole = (pod.spec.resources or {}).get("limits") or {}
    try:
        return resources.field(pod.all_containers, default, selector, {**allocatable, **whole})
    except ValueError as error:
        raise ConfigError(str(error)) from None


def field(pod: core.Pod, path: str, addresses: Addresses) -> str:
    """A field of the pod for the downward API. Raises ConfigError for one that it does not offer."""
    meta = pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        table = meta.labels if subscript.group(1) == "labels" else meta.annotations
        return table.get(subscript.group(2), "")
    values = {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "metadata.labels": _lines(meta.labels),
        "metadata.annotations": _lines(meta.annotations),
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": next(iter(addresses.pod), ""),
        "status.podIPs": ",".join(addresses.pod),
        "status.hostIP": next(iter(addresses.host), ""),
        "status.hostIPs": ",".join(addresses.host),
    }
    if path not in values:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return values[path]


def _lines(table: Mapping[str, str]) -> str:
    return "\n".join(f"{name}={go_quote(value)}" for name, value in sorted(table.items()))


_WORDS = {"configMap": ("configmap", "ConfigMap"), "secret": ("secret", "Secret")}


def _key_of(kind: str, reference: Mapping[str, Any], objects: Sources, namespace: str) -> str | None:
    name, key, optional = reference.get("name", ""), reference.get("key", ""), bool(reference.get("optional"))
    data = objects.get(Source(kind, name))
    if data is not None and key in data:
        return data[key]
    if optional:
        return None
    plural, word = _WORDS[kind]
    if data is None:
        raise ConfigError(f'{plural} "{name}" not found')
    raise ConfigError(f"couldn't find key {key} in {word} {namespace}/{name}")


def _all_of(entry: Mapping[str, Any], objects: Sources, namespace: str) -> dict[str, str]:
    prefix = entry.get("prefix", "")
    for kind in ("configMap", "secret"):
        reference = entry.get(f"{kind}Ref")
        if reference is None:
            continue
        data = objects.get(Source(kind, reference.get("name", "")))
        if data is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{_WORDS[kind][0]} "{reference.get("name", "")}" not found')
        return {prefix + key: value for key, value in data.items() if "=" not in key}
    return {}


def words(given: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """A container's command or arguments, with the values of its variables."""
    return [expand(word, values) for word in given]


def hosts_file(pod: core.Pod, addresses: Sequence[str], domain: str, node: str) -> str:
    """/etc/hosts: the pod's name under each of its addresses; on the host's network the node's own file."""
    name = _hostname(pod)
    names = f"{_full_name(pod, domain)}\t{name}" if pod.spec.subdomain else name
    lines = [f"{address}\t{names}\n" for address in addresses]
    aliases = [f"{alias.ip}\t{chr(9).join(alias.hostnames)}\n" for alias in pod.spec.host_aliases]
    if aliases:
        aliases.insert(0, "\n# Entries added by HostAliases.\n")
    if pod.spec.host_network:
        return f"# Kubernetes-managed hosts file (host network).\n{node}" + "".join(aliases)
    return HOSTS_HEAD + "".join(lines + aliases)


def lacks_cluster_dns(pod: core.Pod, cluster_dns: Sequence[str]) -> bool:
    """Whether a pod is to ask the cluster's DNS where there is none; it then asks the node's."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    wanted = policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not pod.spec.host_network)
    return wanted and not cluster_dns


def missing_cluster_dns(pod: core.Pod) -> str:
    """kubelet's words for that."""
    meta = pod.metadata
    return (
        f'pod: "{meta.name}_{meta.namespace}({meta.uid})". kubelet does not have ClusterDNS IP configured and cannot '
        'create Pod using "ClusterFirst" policy. Falling back to "Default" policy.'
    )


def resolver_file(pod: core.Pod, cluster_dns: Sequence[str], domain: str, node: str) -> str:
    """/etc/resolv.conf by dnsPolicy and dnsConfig; `node` is the node's own, used where there is no cluster DNS."""
    policy, extra = pod.spec.dns_policy or "ClusterFirst", pod.spec.dns_config or {}
    servers: list[str] = []
    search: list[str] = []
    options: dict[str, str] = {}
    if policy == "ClusterFirst" and pod.spec.host_network:
        policy = "Default"
    if policy.startswith("ClusterFirst") and cluster_dns:
        servers = list(cluster_dns)
        search = [f"{pod.metadata.namespace}.svc.{domain}", f"svc.{domain}", domain]
        options = {"ndots": "5"}
    elif policy != "None":
        if not extra:
            return node
        servers, search, options = _parse_resolver(node)
    servers += [server for server in extra.get("nameservers", []) if server not in servers]
    search += [name for name in extra.get("searches", []) if name not in search]
    options |= {option["name"]: option.get("value") or "" for option in extra.get("options", [])}
    lines = [f"search {' '.join(search[:SEARCHES])}\n"] if search else []
    lines += [f"nameserver {server}\n" for server in servers[:NAMESERVERS]]
    if options:
        lines.append("options " + " ".join(f"{k}:{v}" if v else k for k, v in options.items()) + "\n")
    return "".join(lines)


def _parse_resolver(text: str) -> tuple[list[str], list[str], dict[str, str]]:
    servers, search, options = [], list[str](), dict[str, str]()
    for words in map(str.split, text.splitlines()):
        match words:
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search", *names]:
                search = names
            case ["options", *given]:
                options |= {name: value for name, _, value in (option.partition(":") for option in given)}
    return servers, search, options
