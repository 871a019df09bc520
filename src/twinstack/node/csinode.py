"""The CSINode of a node (storage.k8s.io/v1): there from the start, with no drivers, as kubelet makes it."""

from __future__ import annotations

import logging

from twinstack.api import core
from twinstack.api.errors import StatusError
from twinstack.api.kinds import CSI_NODES
from twinstack.client.rest import Client

log = logging.getLogger(__name__)

_MIGRATED = (
    "aws-ebs",
    "azure-disk",
    "azure-file",
    "cinder",
    "gce-pd",
    "portworx-volume",
    "vsphere-volume",
)
_ANNOTATION = "storage.alpha.kubernetes.io/migrated-plugins"


async def ensure(client: Client, node: core.Node) -> bool:
    """Make it if it is missing; it goes with the Node. False if the server refuses. Raises OSError."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": node.metadata.name, "uid": node.metadata.uid}
    meta = {
        "name": node.metadata.name,
        "annotations": {_ANNOTATION: ",".join(f"kubernetes.io/{name}" for name in _MIGRATED)},
        "ownerReferences": [owner],
    }
    try:
        await client.create(CSI_NODES, {"metadata": meta, "spec": {"drivers": []}})
    except StatusError as error:
        if error.reason != "AlreadyExists":
            log.warning("CSINode %s: %s", node.metadata.name, error)
            return False
    return True
