"""Admission plugin ServiceAccount: every Pod has an account, and its containers a token of it.

Mirror Pods stay as the kubelet wrote them. Functions raise StatusError 403, in upstream's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twinstack.api.errors import StatusError, forbidden, go_value
from twinstack.api.resources import resource
from twinstack.server.nodes import references
from twinstack.server.objectmeta import generated_name
from twinstack.server.strategy.base import WriteContext

JSON = dict[str, Any]

ACCOUNTS = resource("", "serviceaccounts")
DEFAULT = "default"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_MIRROR = "kubernetes.io/config.mirror"
_VOLUME = "kube-api-access-"
_TOKEN_SECONDS = 3607  # an odd number: tokens that were asked for by this plugin are known by it
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"


def admit_account(ctx: WriteContext, pod: JSON) -> None:
    """Give a new Pod, in place, its account, the account's pull secrets and a token."""
    spec = pod["spec"]
    if _MIRROR in (pod["metadata"].get("annotations") or {}):
        _check_mirror(ctx, spec)
        return
    name = spec.get("serviceAccountName") or DEFAULT
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = ctx.reader.get(ACCOUNTS, ctx.namespace, name)
    if account is None:
        shown = f"{ctx.namespace}/{name}"
        raise _refusal(ctx, f'error looking up service account {shown}: serviceaccount "{name}" not found')
    if _wants_token(account, spec):
        _mount_token(spec)
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [{"name": each.get("name", "")} for each in account["imagePullSecrets"]]
    if (account["metadata"].get("annotations") or {}).get(_ENFORCE, "").lower() in ("1", "t", "true"):
        for problem in _unlisted(account, spec):
            raise _refusal(ctx, problem)


def _check_mirror(ctx: WriteContext, spec: JSON) -> None:
    problem = ""
    if spec.get("serviceAccountName"):
        problem = "a mirror pod may not reference service accounts"
    elif any(True for _ in references.secrets(spec)):
        problem = "a mirror pod may not reference secrets"
    elif any(True for _ in references.token_audiences(spec)):
        problem = "a mirror pod may not use ServiceAccountToken volume projections"
    if problem:
        raise _refusal(ctx, problem)


def _wants_token(account: JSON, spec: JSON) -> bool:
    """The Pod's own word counts more than the account's; nothing said means yes."""
    for each in (spec, account):
        if each.get("automountServiceAccountToken") is not None:
            return bool(each["automountServiceAccountToken"])
    return True


def _mount_token(spec: JSON) -> None:
    """Into every container that has nothing at the token's place."""
    volumes = spec.get("volumes") or []
    existing = next((volume["name"] for volume in volumes if volume["name"].startswith(_VOLUME)), "")
    name = existing or generated_name(_VOLUME)
    needed = False
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        mounts = container.get("volumeMounts") or []
        if all(mount.get("mountPath") != TOKEN_PATH for mount in mounts):
            container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}]
            needed = True
    if needed and not existing:
        spec["volumes"] = [*volumes, _token_volume(name)]


def _token_volume(name: str) -> JSON:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}


def _unlisted(account: JSON, spec: JSON) -> Iterator[str]:
    """Secrets that the account does not list (annotation kubernetes.io/enforce-mountable-secrets)."""
    listed = {each.get("name", "") for each in account.get("secrets") or []}
    whose = f"is not allowed because service account {account['metadata']['name']} does not reference that"
    for volume in spec.get("volumes") or []:
        name = (volume.get("secret") or {}).get("secretName", "")
        if name and name not in listed:
            yield f"volume with secret.secretName={go_value(name)} {whose} secret"
    for field, kind in (("initContainers", "init container"), ("containers", "container")):
        for container in spec.get(field) or []:
            for name in references.environment_secrets(container):
                if name not in listed:
                    which = f"{kind} {container['name']} with envVar"
                    yield f"{which} referencing secret.secretName={go_value(name)} {whose} secret"
    pulls = {each.get("name", "") for each in account.get("imagePullSecrets") or []}
    for i, each in enumerate(spec.get("imagePullSecrets") or []):
        if each.get("name", "") not in pulls:
            yield f"imagePullSecrets[{i}].name={go_value(each.get('name', ''))} {whose} imagePullSecret"


def _refusal(ctx: WriteContext, problem: str) -> StatusError:
    return forbidden(ctx.resource.plural, ctx.name, problem)
