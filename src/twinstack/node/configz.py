"""The answer of `/configz`: what is in force, as a KubeletConfiguration (kubelet.config.k8s.io/v1beta1). Pure."""

from __future__ import annotations

from typing import Any

from twinstack.api.times import format_duration
from twinstack.node.agent import Settings
from twinstack.node.authorization import ALLOWED_SECONDS, DENIED_SECONDS, TOKEN_SECONDS
from twinstack.node.registration import LEASE_SECONDS, PODS, RENEW_EVERY, REPORT_EVERY
from twinstack.node.runtime.records import LOG_SIZE

JSON = dict[str, Any]


def shown(settings: Settings, certificate: str, key: str, client_authority: str) -> JSON:
    """What has no counterpart in this agent is left out. The last three are files."""
    return {
        "kubeletconfig": {
            "enableServer": True,
            "syncFrequency": format_duration(settings.refresh_period),
            "address": "::",
            "port": settings.port,
            "tlsCertFile": certificate,
            "tlsPrivateKeyFile": key,
            "authentication": {
                "x509": {"clientCAFile": client_authority},
                "webhook": {"enabled": True, "cacheTTL": format_duration(TOKEN_SECONDS)},
                "anonymous": {"enabled": False},
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": {
                    "cacheAuthorizedTTL": format_duration(ALLOWED_SECONDS),
                    "cacheUnauthorizedTTL": format_duration(DENIED_SECONDS),
                },
            },
            "clusterDomain": settings.cluster_domain,
            "clusterDNS": list(settings.cluster_dns),
            "nodeStatusUpdateFrequency": format_duration(RENEW_EVERY),
            "nodeStatusReportFrequency": format_duration(REPORT_EVERY),
            "nodeLeaseDurationSeconds": LEASE_SECONDS,
            "cgroupDriver": "cgroupfs",
            "maxPods": PODS,
            "podPidsLimit": settings.pod_max_pids,
            "resolvConf": "/etc/resolv.conf",
            "serializeImagePulls": False,
            "containerLogMaxSize": f"{LOG_SIZE >> 20}Mi",
            "containerLogMaxFiles": 2,
            "enableDebuggingHandlers": True,
            "registerNode": True,
        }
    }
