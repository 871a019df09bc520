"""What a node's service proxy has to do, as values: front ends, targets, and what is done with a new flow."""

from __future__ import annotations

import enum

import msgspec

from twinstack.ip import CIDR, Address, IPFamily

ZONE_LABEL = "topology.kubernetes.io/zone"


class Value(msgspec.Struct, frozen=True, order=True, gc=False):
    """Compared and hashed by its fields, as a named tuple is, but made in a third of the time and a third smaller.

    Of tens of thousands at the start that counts. The garbage collector passes them by: they form no circles.
    """


class Protocol(enum.IntEnum):
    """Layer 4 protocols of a Service port, by their IANA numbers."""

    TCP = 6
    UDP = 17
    SCTP = 132

    @classmethod
    def parse(cls, text: str | None) -> Protocol | None:
        """The API's name; absent means TCP, as the API server defaults it. None for a name nobody knows."""
        return _PROTOCOLS.get(text or "TCP")


_PROTOCOLS = {protocol.name: protocol for protocol in Protocol}


class ServicePortName(Value, frozen=True):
    """Which port of which Service. Endpoints join a Service by port name and protocol, never by number."""

    namespace: str
    service: str
    port: str
    protocol: Protocol

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.namespace}/{self.service}{port}/{self.protocol.name}"


class Target(Value, frozen=True):
    """Where a flow is sent."""

    address: Address
    port: int

    def __str__(self) -> str:
        if self.address.family is IPFamily.IPV6:
            return f"[{self.address}]:{self.port}"
        return f"{self.address}:{self.port}"


class NodeView(Value, frozen=True):
    """What the computation takes from the node it is for."""

    name: str
    zone: str = ""
    addresses: frozenset[Address] = frozenset()  # the Node's own, of both families


class Surroundings(Value, frozen=True):
    """What a node does that depends on node and cluster rather than on Services, in one family."""

    node_ips: frozenset[Address] = frozenset()  # where NodePorts answer
    service_cidrs: frozenset[CIDR] = frozenset()
    local_pods: frozenset[CIDR] | None = None  # None: unknown, then no source is masqueraded for being foreign
    pods_by_interface: bool = False  # local pods are known by where they come in, not by their addresses


class Via(enum.IntEnum):
    """How a front end is reached. When two claim one address and port, the lower number has it."""

    CLUSTER_IP = 0
    NODE_PORT = 1
    LOAD_BALANCER = 2
    EXTERNAL_IP = 3

    def __str__(self) -> str:
        return _VIA_NAMES[self]


_VIA_NAMES = {
    Via.CLUSTER_IP: "ClusterIP",
    Via.NODE_PORT: "NodePort",
    Via.LOAD_BALANCER: "LoadBalancer",
    Via.EXTERNAL_IP: "ExternalIP",
}


class Action(enum.Enum):
    """What happens to a new flow."""

    FORWARD = "forward"
    REJECT = "reject"  # no endpoint anywhere: the client hears of it at once
    DROP = "drop"  # endpoints elsewhere only, and the traffic policy says local: the client may try again


class Slot(Value, frozen=True, cache_hash=True):
    """The address and port that a front end answers on. No address: each address of the node for NodePorts."""

    address: Address | None
    port: int
    protocol: Protocol

    def __str__(self) -> str:
        if self.address is None:
            return f"*:{self.port}/{self.protocol.name}"
        return f"{Target(self.address, self.port)}/{self.protocol.name}"


class FrontEnd(Value, frozen=True):
    """One address and port of a Service port, in one family."""

    slot: Slot
    via: Via
    name: ServicePortName
    action: Action
    targets: tuple[Target, ...] = ()  # sorted, each once; one is chosen at random for every new flow
    serving: frozenset[Target] = frozenset()  # UDP only: endpoints that established flows may stay with
    local: bool = False  # the traffic policy is Local: only endpoints of this node are targets
    # With externalTrafficPolicy Local: whom flows of this node and its pods go to, whom the policy does not bind.
    near: tuple[Target, ...] | None = None
    affinity: int = 0  # seconds for which a client address stays with an endpoint; 0: not at all
    sources: tuple[CIDR, ...] | None = None  # sorted; None: every source may come in

    @property
    def rank(self) -> tuple[Via, bool, ServicePortName]:
        """Whose the slot is when several claim it: the lowest. One that has endpoints comes before one that waits."""
        return self.via, self.action is Action.REJECT, self.name


class Hairpin(Value, frozen=True):
    """A local endpoint: a flow from its address to itself through a Service must be masqueraded."""

    target: Target
    protocol: Protocol


class HealthCheck(Value, frozen=True):
    """What a node tells a load balancer about a Service with externalTrafficPolicy Local."""

    port: int  # healthCheckNodePort
    endpoints: int  # addresses of ready endpoints on this node


class ServiceState(Value, frozen=True):
    """All that one Service asks of a node, in one family."""

    cluster_ip: Address | None = None
    front_ends: tuple[FrontEnd, ...] = ()
    hairpins: tuple[Hairpin, ...] = ()  # sorted, each once
    health: HealthCheck | None = None


NOTHING = ServiceState()
