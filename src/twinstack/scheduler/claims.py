"""Whether the volumes that a Pod claims are there (core/v1 PersistentVolumeClaimVolumeSource)."""

from __future__ import annotations

from twinstack.api.core import Pod
from twinstack.api.errors import StatusError
from twinstack.api.kinds import PERSISTENT_VOLUME_CLAIMS
from twinstack.client.rest import Client
from twinstack.scheduler.refusals import Refusal

UNBOUND = Refusal(("pod has unbound immediate PersistentVolumeClaims",), resolvable=False)


def claimed(pod: Pod) -> list[str]:
    """The names of the claims that a Pod mounts."""
    return [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod.spec.volumes if "persistentVolumeClaim" in volume
    ]


async def refusal(client: Client, pod: Pod) -> Refusal | None:
    """Why no node will do yet. Claims are asked for, not followed: hardly any Pod has one."""
    for name in claimed(pod):
        try:
            claim = await client.get(PERSISTENT_VOLUME_CLAIMS, name, pod.metadata.namespace)
        except StatusError as error:
            if error.code != 404:
                raise
            return Refusal((f'persistentvolumeclaim "{name}" not found',), resolvable=False)
        if claim.status.phase != "Bound":
            return UNBOUND
    return None
