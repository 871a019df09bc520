"""Leases (coordination.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinstack.api.errors import FieldError, invalid
from twinstack.server.strategy.base import Strategy, WriteContext

JSON = dict[str, Any]


class LeaseStrategy(Strategy):
    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        _drop_coordination(obj)

    def prepare_update(self, ctx: WriteContext, new: JSON, old: JSON) -> None:
        _drop_coordination(new)

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        spec = obj.get("spec") or {}
        errors: list[FieldError] = []
        duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
        if duration is not None and duration <= 0:
            errors.append(invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"))
        if transitions is not None and transitions < 0:
            errors.append(invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
        return errors


def _drop_coordination(obj: JSON) -> None:
    """Coordinated leader election (KEP-4355) is off by default: its fields are dropped."""
    spec = obj.get("spec") or {}
    spec.pop("strategy", None)
    spec.pop("preferredHolder", None)
