"""Every namespace has a ServiceAccount `default`, which its Pods use unless they name another."""

from __future__ import annotations

from typing import Any

from twinstack.api.core import ServiceAccount
from twinstack.api.kinds import SERVICE_ACCOUNTS
from twinstack.controllers.context import Context
from twinstack.controllers.everynamespace import EveryNamespaceController


class DefaultServiceAccount:
    kind = SERVICE_ACCOUNTS
    name = "default"

    def body(self) -> dict[str, Any]:
        return {}

    def mend(self, obj: ServiceAccount) -> dict[str, Any] | None:
        return None


def controller(context: Context) -> EveryNamespaceController[ServiceAccount]:
    return EveryNamespaceController(context, DefaultServiceAccount())
