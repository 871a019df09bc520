"""What kube-proxy 1.36 does in its nftables mode, as a table: every sort of Service, and what becomes of a packet.

It shares nothing with the code that it judges but the names of protocols and families.
"""

from __future__ import annotations

import enum
import ipaddress
import itertools
from typing import NamedTuple

from tests.integration.proxy.bed import CLIENT, GUEST, GUEST_BLOCK, NODE_CLIENT_SIDE, pod
from tests.integration.proxy.probes import Heard

from twinstack.ip import IPFamily


class From(enum.StrEnum):
    """Who begins a flow."""

    CLIENT = "client"  # outside
    NODE = "node"
    POD = "pod"  # of this node, and no endpoint
    ITSELF = "itself"  # the endpoint, a pod of this node


SOURCES = {
    From.CLIENT: CLIENT,
    From.NODE: NODE_CLIENT_SIDE,
    From.POD: GUEST,
    From.ITSELF: {family: pod(family, 1) for family in IPFamily},
}


class To(enum.StrEnum):
    """What a flow is addressed to."""

    CLUSTER_IP = "ClusterIP"
    OTHER_PORT = "other port"  # of the cluster IP
    NODE_PORT = "NodePort"
    EXTERNAL_IP = "externalIP"
    BALANCER = "load balancer"


class Behind(NamedTuple):
    """Endpoints by the numbers of their pods."""

    here: tuple[int, ...] = ()
    there: tuple[int, ...] = ()
    leaving_here: tuple[int, ...] = ()  # terminating, still serving
    leaving_there: tuple[int, ...] = ()
    unready: tuple[int, ...] = ()  # of this node


BEHIND = {
    "one": Behind(here=(1,)),
    "local": Behind(here=(1, 2)),
    "remote": Behind(there=(3, 4)),
    "both": Behind(here=(1, 2), there=(3, 4), leaving_here=(5,)),
    "none": Behind(),
    "leaving": Behind(leaving_here=(1, 2), unready=(5,)),
    "leaving-remote": Behind(leaving_there=(3, 4)),
    "remote-and-leaving": Behind(there=(3, 4), leaving_here=(5,)),
    "unready": Behind(unready=(5,)),
}
RANGES: dict[str, list[str]] = {
    "open": [],
    "all": ["0.0.0.0/0", "::/0", "192.0.2.0/24"],
    "client": [CLIENT[IPFamily.IPV4] + "/32", f" {CLIENT[IPFamily.IPV6]}/127 "],
    "pods": [*map(str, GUEST_BLOCK.values()), "192.0.2.0/31"],
    "node": [NODE_CLIENT_SIDE[IPFamily.IPV4] + "/32", NODE_CLIENT_SIDE[IPFamily.IPV6] + "/128"],
    "nobody-and-open": ["2001:db8:7::/64"],  # IPv4 is left open
}


class Sort(NamedTuple):
    """A sort of Service: NodePort, external address and load balancer are there always."""

    inside_local: bool  # internalTrafficPolicy
    outside_local: bool  # externalTrafficPolicy
    behind: str
    sticky: bool
    ranges: str

    @property
    def name(self) -> str:
        policies = ("local" if bound else "cluster" for bound in self[:2])
        return "-".join((*policies, self.behind, "sticky" if self.sticky else "loose", self.ranges))


SORTS = [Sort(*each) for each in itertools.product((False, True), (False, True), BEHIND, (False, True), RANGES)]


class Knowledge(enum.StrEnum):
    """How the proxy tells which sources are pods of its node."""

    ADDRESS = "address"
    INTERFACE = "interface"  # the one of the pod that only asks
    NONE = "none"


class Expected(NamedTuple):
    heard: Heard
    pods: frozenset[int] = frozenset()  # one of them answers
    masqueraded: bool = False  # it sees the node's address


NOTHING, REFUSAL = Expected(Heard.NOTHING), Expected(Heard.REFUSAL)


def expect(sort: Sort, family: IPFamily, source: From, to: To, knowledge: Knowledge = Knowledge.ADDRESS) -> Expected:
    if to is To.OTHER_PORT:
        return REFUSAL
    behind = BEHIND[sort.behind]
    anywhere = behind.here + behind.there or behind.leaving_here + behind.leaving_there
    on_node = behind.here or behind.leaving_here
    is_pod = source in (From.POD, From.ITSELF) and knowledge is not Knowledge.NONE
    if to is To.BALANCER and not _let_in(sort, family, source):
        return NOTHING
    if not anywhere:
        return REFUSAL
    if to is To.CLUSTER_IP:
        choice = on_node if sort.inside_local else anywhere
        masqueraded = not is_pod and knowledge is not Knowledge.NONE
    elif not sort.outside_local or source is From.NODE:
        choice, masqueraded = anywhere, True
    else:
        choice, masqueraded = anywhere if is_pod else on_node, False
    if not choice:
        return NOTHING
    hairpin = source is From.ITSELF and choice == (1,)
    return Expected(Heard.ANSWER, frozenset(choice), masqueraded or hairpin)


def _let_in(sort: Sort, family: IPFamily, source: From) -> bool:
    blocks = [ipaddress.ip_network(text.strip()) for text in RANGES[sort.ranges]]
    mine = [block for block in blocks if block.version == (4 if family is IPFamily.IPV4 else 6)]
    return not mine or any(ipaddress.ip_address(SOURCES[source][family]) in block for block in mine)
