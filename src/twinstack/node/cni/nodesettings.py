"""What a node must have set so that its containers reach anything: idempotent, and nothing of others is undone."""

from __future__ import annotations

import os
from collections.abc import Iterable

from twinstack.ip import IPFamily
from twinstack.linux import links, sysctl

_FORWARDING = {IPFamily.IPV4: "net/ipv4/ip_forward", IPFamily.IPV6: "net/ipv6/conf/all/forwarding"}

# Of the node's end of a cable: a Service's reply may leave another way than its request came, and a container reaches
# itself through the node, rightly.
CABLE = {links.RP_FILTER: 0, links.SEND_REDIRECTS: 0}

CONTAINER = {
    "net/ipv6/conf/default/accept_ra": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
}
_ALLOW_IPV6 = {"net/ipv6/conf/all/disable_ipv6": "0", "net/ipv6/conf/default/disable_ipv6": "0"}


def forward(families: Iterable[IPFamily]) -> None:
    """Let the calling thread's namespace route. Raises OSError.

    A link whose routes come from router advertisements would lose them, since a router ignores those unless
    accept_ra is 2.
    """
    for family in families:
        if sysctl.read(_FORWARDING[family]) == "0":
            if family is IPFamily.IPV6:
                _keep_advertised_routes()
            sysctl.write({_FORWARDING[family]: "1"})


def _keep_advertised_routes() -> None:
    for name in os.listdir(f"{sysctl.ROOT}net/ipv6/conf"):
        if name not in ("all", "default", "lo") and sysctl.read(f"net/ipv6/conf/{name}/accept_ra") == "1":
            sysctl.write({f"net/ipv6/conf/{name}/accept_ra": "2"})


def prepare_container(families: Iterable[IPFamily]) -> None:
    """Set up the calling thread's namespace before its link is made. Raises OSError."""
    sysctl.write(CONTAINER)
    if IPFamily.IPV6 in families:
        sysctl.write_changed(_ALLOW_IPV6)
