"""Where the API server is and how to prove who we are: kubeconfig files (client.authentication, v1 Config)."""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from twinstack.ip import Address, IPFamily

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class KubeconfigError(ValueError):
    """A kubeconfig that cannot be used; the message says which file and what to do."""


class ClusterAccess(msgspec.Struct, kw_only=True, frozen=True):
    """One cluster as one user sees it. `server` is the base URL; certificates and keys are PEM.

    `token_file` wins over `token` and is read again as it changes.
    """

    server: str
    ca_data: bytes | None = None
    client_cert: bytes | None = None
    client_key: bytes | None = None
    token: str = ""
    token_file: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    namespace: str = "default"


def load(path: str, context: str = "") -> ClusterAccess:
    """Read the access of `context` (empty: the current one) from a kubeconfig file.

    Raises KubeconfigError when the file is unreadable, names what it does not hold, or asks for an
    authentication that needs a foreign program.
    """
    file = Path(path)
    try:
        document = _parse(file.read_bytes())
    except OSError as error:
        raise KubeconfigError(
            f"cannot read kubeconfig {path}: {error.strerror}; give the right path with --kubeconfig"
        ) from None
    except ValueError as error:
        raise KubeconfigError(f"kubeconfig {path} is neither JSON nor YAML: {error}") from None
    if not isinstance(document, dict):
        raise KubeconfigError(f"kubeconfig {path} holds no object")
    return _access(document, file, context)


def in_cluster() -> ClusterAccess:
    """The access that every Pod is given through its service account. Raises KubeconfigError outside of one."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
    try:
        if not host or not port:
            raise KubeconfigError("not inside a Pod: KUBERNETES_SERVICE_HOST is unset; give --kubeconfig")
        ca_data = (SERVICE_ACCOUNT / "ca.crt").read_bytes()
        namespace = (SERVICE_ACCOUNT / "namespace").read_text()
    except OSError as error:
        raise KubeconfigError(f"this Pod has no service account token mounted: {error}") from None
    try:
        bracketed = f"[{host}]" if Address.parse(host).family is IPFamily.IPV6 else host
    except ValueError:
        bracketed = host  # a name
    return ClusterAccess(
        server=f"https://{bracketed}:{port}",
        ca_data=ca_data,
        token_file=str(SERVICE_ACCOUNT / "token"),
        namespace=namespace.strip(),
    )


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        import yaml  # 60 ms to import, and our own kubeconfigs are JSON

        try:
            return yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from None


def _access(document: dict[str, Any], file: Path, context: str) -> ClusterAccess:
    wanted = context or document.get("current-context") or ""
    if not wanted:
        raise KubeconfigError(f"kubeconfig {file} has no current-context; run: kubectl config use-context NAME")
    chosen = _named(document, "contexts", "context", wanted, file)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster", ""), file)
    user = _named(document, "users", "user", chosen["user"], file) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise KubeconfigError(f"kubeconfig {file}: cluster {chosen.get('cluster')!r} has no server")
    if "exec" in user or "auth-provider" in user:
        raise KubeconfigError(
            f"kubeconfig {file}: user {chosen['user']!r} authenticates through a foreign program, which is not run "
            "here; use a client certificate or a token (kubectl create token SERVICEACCOUNT)"
        )
    certificate = _data(user, "client-certificate", file)
    key = _data(user, "client-key", file)
    if (certificate is None) != (key is None):
        raise KubeconfigError(f"kubeconfig {file}: user {chosen['user']!r} needs client-certificate and client-key")
    token_file = user.get("tokenFile") or ""
    return ClusterAccess(
        server=cluster["server"].rstrip("/"),
        ca_data=_data(cluster, "certificate-authority", file),
        client_cert=certificate,
        client_key=key,
        token=user.get("token") or "",
        token_file=str(file.parent / token_file) if token_file else "",
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name") or "",
        namespace=chosen.get("namespace") or "default",
    )


def _named(document: dict[str, Any], section: str, field: str, name: str, file: Path) -> dict[str, Any]:
    entries = document.get(section) or []
    for entry in entries:
        if entry.get("name") == name:
            return entry.get(field) or {}
    known = ", ".join(sorted(str(entry.get("name")) for entry in entries)) or "none"
    raise KubeconfigError(f"kubeconfig {file} has no {field} {name!r}; it has: {known}")


def _data(section: dict[str, Any], field: str, file: Path) -> bytes | None:
    """PEM of `field`: inline as base64 (`field-data`, which wins), or a file relative to the kubeconfig."""
    inline = section.get(f"{field}-data")
    if inline:
        try:
            return base64.b64decode(inline, validate=True)
        except binascii.Error as error:
            raise KubeconfigError(f"kubeconfig {file}: {field}-data is not base64: {error}") from None
    name: str = section.get(field) or ""
    if not name:
        return None
    try:
        return (file.parent / name).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {file}: cannot read {field} {name}: {error.strerror}") from None
