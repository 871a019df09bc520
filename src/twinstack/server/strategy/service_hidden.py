"""The `internalTrafficPolicy` of an ExternalName Service: never shown, but a patch that changes the type finds it.

Objects are stored as they are shown, so it stands beside them. `Cluster` is what every other type gets anyway; only
`Local` has to be remembered, by a key that is there or not.
"""

from __future__ import annotations

from twinstack.api.core import ServiceSpec
from twinstack.server.strategy import service_traits as traits
from twinstack.server.strategy.base import JSON, Reader, WriteContext
from twinstack.store import Delete, Operation, Put

_KEYS = "hiddentrafficpolicies/"  # of Services whose hidden policy is Local


def _key(meta: JSON) -> str:
    return f"{_KEYS}{meta['namespace']}/{meta['name']}"


def unveil_policy(reader: Reader, service: JSON) -> JSON:
    """`service` with its hidden policy, in place."""
    spec = service["spec"]
    if spec.get("type") == traits.EXTERNAL_NAME and reader.exists(_key(service["metadata"])):
        spec["internalTrafficPolicy"] = traits.LOCAL
    return service


def keep_policy(ctx: WriteContext, meta: JSON, spec: ServiceSpec) -> list[Operation]:
    """What the write of `spec` does to the hidden policy of the Service of that metadata."""
    if spec.type != traits.EXTERNAL_NAME or spec.internal_traffic_policy != traits.LOCAL:
        return forget_policy(ctx, meta)
    key = _key(meta)
    return [] if ctx.reader.exists(key) else [Put(key, lambda _revision: b"{}", None)]


def forget_policy(ctx: WriteContext, meta: JSON) -> list[Operation]:
    """The Service goes, or shows its policy again."""
    key = _key(meta)
    return [Delete(key, None)] if ctx.reader.exists(key) else []
