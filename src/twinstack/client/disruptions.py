"""Pods that are sent away for the sake of others (condition DisruptionTarget, KEP-3329)."""

from __future__ import annotations

from twinstack.api import times
from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PODS
from twinstack.client.rest import Client


def disrupted(reason: str, message: str) -> dict[str, str]:
    """The condition."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": times.now(),
    }


async def send_away(client: Client, pod: Pod, reason: str, message: str) -> bool:
    """Say why, then delete, gracefully: whoever counts failures of Pods must know that this one did not fail.

    False if it has gone already. Raises StatusError and OSError.
    """
    meta = pod.metadata
    patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [disrupted(reason, message)]}}
    try:
        await client.patch(PODS, meta.name, meta.namespace, patch, subresource="status")
        await client.delete(PODS, meta.name, meta.namespace, uid=meta.uid)
    except StatusError as error:
        if error.code not in (404, 409):
            raise
        return False
    return True
