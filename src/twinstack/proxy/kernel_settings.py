"""Settings of connection tracking that people may want with a service proxy. What nobody asks for is left alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from twinstack.linux import sysctl

MOST_FLOWS = 1 << 20  # what a number of flows a processor may add up to
_BUCKETS = Path("/sys/module/nf_conntrack/parameters/hashsize")
_FLOWS_PER_BUCKET = 4


class ConntrackSettings(NamedTuple):
    """Flags of kube-proxy; zero and False leave the kernel's setting as it is. Times are in seconds."""

    max_per_core: int = 0
    min: int = 0  # of the maximum
    tcp_timeout_established: float = 0
    tcp_timeout_close_wait: float = 0
    udp_timeout: float = 0
    udp_timeout_stream: float = 0
    tcp_be_liberal: bool = False  # take packets outside the window for part of their flow

    def most_flows(self, cores: int) -> int:
        """The wanted size of the table, or 0. A minimum alone asks for nothing, as in kube-proxy."""
        if self.max_per_core <= 0:
            return 0
        return max(min(self.max_per_core * cores, MOST_FLOWS), self.min)

    def wanted(self) -> dict[str, str]:
        """Values by name, but for the size of the table."""
        seconds = {
            "nf_conntrack_tcp_timeout_established": self.tcp_timeout_established,
            "nf_conntrack_tcp_timeout_close_wait": self.tcp_timeout_close_wait,
            "nf_conntrack_udp_timeout": self.udp_timeout,
            "nf_conntrack_udp_timeout_stream": self.udp_timeout_stream,
        }
        found = {name: str(max(1, round(value))) for name, value in seconds.items() if value > 0}
        return found | ({"nf_conntrack_tcp_be_liberal": "1"} if self.tcp_be_liberal else {})


def apply(settings: ConntrackSettings) -> None:
    """Write what differs. Raises OSError when the kernel does not let us: only the host may change the table's size."""
    wanted = settings.wanted()
    flows = settings.most_flows(os.cpu_count() or 1)
    if flows:
        wanted["nf_conntrack_max"] = str(flows)
    sysctl.write_changed({f"net/netfilter/{name}": value for name, value in wanted.items()})
    if flows and int(_BUCKETS.read_text()) < flows // _FLOWS_PER_BUCKET:
        _BUCKETS.write_text(str(flows // _FLOWS_PER_BUCKET))
