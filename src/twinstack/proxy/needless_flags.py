"""Flags of kube-proxy that have nothing to act on here: each is taken with a word in the log, or refused with a reason.

What kube-proxy itself leaves aside in mode nftables, or what asks for something that is so anyway, is taken.
"""

from __future__ import annotations

import argparse
import logging
from typing import NamedTuple

log = logging.getLogger(__name__)


class _Flag(NamedTuple):
    reason: str
    is_switch: bool = False
    harmless: frozenset[str] = frozenset()  # values that ask for what is so anyway


_WATCHED = "changes are told by watches, without an interval"
_UNBOUNDED = "requests are few and not held back"
_WRITTEN = "log lines are written at once, to standard error"
_IPTABLES, _IPVS, _WINDOWS = "it is for mode iptables", "it is for mode ipvs", "it is for Windows"
_OFF = frozenset({"false"})

TAKEN = {
    "config-sync-period": _Flag(_WATCHED),
    "kube-api-burst": _Flag(_UNBOUNDED),
    "kube-api-qps": _Flag(_UNBOUNDED),
    "kube-api-content-type": _Flag("JSON is asked for"),
    "iptables-localhost-nodeports": _Flag(f"{_IPTABLES}: NodePorts never answer on loopback here", is_switch=True),
    "iptables-masquerade-bit": _Flag(f"{_IPTABLES}; nftables.masqueradeBit of --config is the one"),
    "log-flush-frequency": _Flag(_WRITTEN),
    "log-json-info-buffer-size": _Flag(_WRITTEN),
    "log-json-split-stream": _Flag(_WRITTEN, is_switch=True),
    "log-text-info-buffer-size": _Flag(_WRITTEN),
    "log-text-split-stream": _Flag(_WRITTEN, is_switch=True),
    "show-hidden-metrics-for-version": _Flag("no metric is hidden"),
    "vmodule": _Flag("-v is for all parts"),
}
REFUSED = {
    "feature-gates": _Flag("no feature is behind a gate here", harmless=frozenset({""})),
    "logging-format": _Flag("log lines are text", harmless=frozenset({"", "text"})),
    "profiling": _Flag("Go's profiler, /debug/pprof, is not here; py-spy looks in from outside", True, _OFF),
    "ipvs-exclude-cidrs": _Flag(_IPVS, harmless=frozenset({""})),
    "ipvs-min-sync-period": _Flag(_IPVS),
    "ipvs-scheduler": _Flag(_IPVS, harmless=frozenset({""})),
    "ipvs-strict-arp": _Flag(_IPVS, True, _OFF),
    "ipvs-sync-period": _Flag(_IPVS),
    "ipvs-tcp-timeout": _Flag(_IPVS, harmless=frozenset({"0", "0s"})),
    "ipvs-tcpfin-timeout": _Flag(_IPVS, harmless=frozenset({"0", "0s"})),
    "ipvs-udp-timeout": _Flag(_IPVS, harmless=frozenset({"0", "0s"})),
    "enable-dsr": _Flag(_WINDOWS, True, _OFF),
    "forward-healthcheck-vip": _Flag(_WINDOWS, True, _OFF),
    "network-name": _Flag(_WINDOWS),
    "root-hnsendpoint-name": _Flag(_WINDOWS),
    "source-vip": _Flag(_WINDOWS),
    "windows-service": _Flag(_WINDOWS, True, _OFF),
}


def add_needless_flags(parser: argparse.ArgumentParser) -> None:
    """Out of the help: nobody has a use for them."""
    for name, flag in (TAKEN | REFUSED).items():
        more = {"nargs": "?", "const": "true"} if flag.is_switch else {}
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS, **more)  # type: ignore[arg-type]


def read_needless_flags(args: argparse.Namespace) -> None:
    """Say what becomes of those that were given. Raises ValueError for those that ask for what is not here."""
    for name, flag in (TAKEN | REFUSED).items():
        value = getattr(args, name.replace("-", "_"), None)
        if value is None or value.lower() in flag.harmless:
            continue
        if name in REFUSED:
            raise ValueError(f"--{name} is not honoured by this proxy: {flag.reason}")
        log.warning("--%s changes nothing here: %s", name, flag.reason)
