"""Fills Secrets of type kubernetes.io/service-account-token, and takes them away with their account.

Such tokens have no end; the API server believes them while their Secret holds them. New clusters ask for tokens
instead (`kubectl create token`); these are for who needs one that stays.
"""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import msgspec

from twinstack.api.core import Secret, ServiceAccount
from twinstack.api.errors import StatusError
from twinstack.api.kinds import SECRETS, SERVICE_ACCOUNTS
from twinstack.client.workqueue import WorkQueue
from twinstack.controllers.context import Context, synced

log = logging.getLogger(__name__)

TYPE = "kubernetes.io/service-account-token"
_NAME, _UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
_ISSUER = "kubernetes/serviceaccount"
_CLAIMS = "kubernetes.io/serviceaccount/"


class TokensController:
    """`key` is the file of the private key that signs; `root_ca` the certificate that goes beside each token."""

    def __init__(self, context: Context, key: Path, root_ca: str) -> None:
        self._client = context.client
        self._key = key
        self._root_ca = root_ca
        self._secrets = context.informers.of(SECRETS, field_selector=f"type={TYPE}")
        self._accounts = context.informers.of(SERVICE_ACCOUNTS)
        self._of_account = self._secrets.index(_account_key)
        self._queue = WorkQueue("tokens")

    async def run(self) -> None:
        await synced(self._secrets, self._accounts)
        self._secrets.subscribe(lambda old, new: self._queue.add(new.key) if new is not None else None)
        self._accounts.subscribe(self._account_changed)
        await self._queue.run(self._sync, workers=2)

    def _account_changed(self, old: ServiceAccount | None, new: ServiceAccount | None) -> None:
        account = new if new is not None else old
        assert account is not None
        if old is None or new is None or old.metadata.uid != new.metadata.uid:
            for key in self._of_account[account.key]:
                self._queue.add(key)

    async def _sync(self, key: str) -> None:
        """Raises StatusError, OSError."""
        secret = self._secrets.objects.get(key)
        if secret is None or secret.metadata.deletion_timestamp is not None:
            return
        meta = secret.metadata
        name = meta.annotations.get(_NAME, "")
        account = await self._account(meta.namespace, name)
        known = meta.annotations.get(_UID, "")
        if account is None or (known and known != account.metadata.uid):
            log.info("deleting secret %s: its service account %s is gone", key, name)
            await self._delete(secret)
            return
        data = self._lacking(secret, account)
        if data or not known:
            await self._fill(secret, account, data)

    async def _account(self, namespace: str, name: str) -> ServiceAccount | None:
        """As the informer knows it, else as the server does: a Secret may come before the news of its account."""
        found = self._accounts.objects.get(f"{namespace}/{name}")
        if found is not None or not name:
            return found
        try:
            return await self._client.get(SERVICE_ACCOUNTS, name, namespace)
        except StatusError as error:
            if error.code != 404:
                raise
        return None

    def _lacking(self, secret: Secret, account: ServiceAccount) -> dict[str, str]:
        """The data that the Secret should have and has not."""
        wanted = {"namespace": _base64(secret.metadata.namespace)}
        if self._root_ca:
            wanted["ca.crt"] = _base64(self._root_ca)
        data = {key: text for key, text in wanted.items() if secret.data.get(key) != text}
        if not secret.data.get("token"):
            data["token"] = _base64(self._sign(secret, account))
        return data

    def _sign(self, secret: Secret, account: ServiceAccount) -> str:
        from twinstack.pki.signatures import Signer  # heavy, and such Secrets are rare

        namespace, name = account.metadata.namespace, account.metadata.name
        claims = {
            "iss": _ISSUER,
            f"{_CLAIMS}namespace": namespace,
            f"{_CLAIMS}secret.name": secret.metadata.name,
            f"{_CLAIMS}service-account.name": name,
            f"{_CLAIMS}service-account.uid": account.metadata.uid,
            "sub": f"system:serviceaccount:{namespace}:{name}",
        }
        return Signer.load(self._key).sign(claims)

    async def _fill(self, secret: Secret, account: ServiceAccount, data: dict[str, str]) -> None:
        """Written whole, as the role of this controller allows it. Raises StatusError."""
        meta = secret.metadata
        obj: dict[str, Any] = msgspec.json.decode(
            await self._client.request("GET", SECRETS.resource.path(meta.namespace, meta.name))
        )
        if obj["metadata"]["uid"] == meta.uid:
            annotations = (obj["metadata"].get("annotations") or {}) | {_UID: account.metadata.uid}
            obj["metadata"]["annotations"] = annotations
            obj["data"] = (obj.get("data") or {}) | data
            self._secrets.wrote(await self._client.update(SECRETS, obj))

    async def _delete(self, secret: Secret) -> None:
        meta = secret.metadata
        try:
            await self._client.delete(
                SECRETS, meta.name, meta.namespace, uid=meta.uid, resource_version=meta.resource_version
            )
        except StatusError as error:
            if error.code not in (404, 409):
                raise


def _account_key(secret: Secret) -> list[str]:
    """For an index: the account that a Secret is for."""
    name = secret.metadata.annotations.get(_NAME, "")
    return [f"{secret.metadata.namespace}/{name}"] if name else []


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
