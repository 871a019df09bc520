"""The PriorityClasses that every cluster has, made anew when somebody deletes them."""

from __future__ import annotations

import copy

from twinstack.server.messages import Route, UserInfo
from twinstack.server.registry import Registry
from twinstack.server.strategy.priorities import CLASSES, SYSTEM_CLASSES

_SELF = UserInfo("system:apiserver", ("system:masters",))


async def ensure(registry: Registry) -> None:
    """Raises StatusError, StoreError."""
    for wanted in SYSTEM_CLASSES:
        if registry.reader.get(CLASSES, "", wanted["metadata"]["name"]) is None:
            await registry.create(Route(CLASSES), copy.deepcopy(wanted), _SELF)
