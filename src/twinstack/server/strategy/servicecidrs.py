"""ServiceCIDR objects: the ranges that cluster IPs come from (KEP-1880)."""

from __future__ import annotations

from collections.abc import Sequence

from twinstack.api.errors import FieldError, invalid, required
from twinstack.api.metadata import IMMUTABLE, immutable
from twinstack.api.validation import cidr_family, strict_cidr
from twinstack.server.strategy.base import JSON, Change, Strategy, WriteContext

_CIDRS = "spec.cidrs"
_ONE_A_FAMILY = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


class ServiceCIDRStrategy(Strategy):
    """networking.k8s.io/v1 ServiceCIDR: one block, or one a family; a second family may be added later."""

    metadata_twice = False

    def prepare_create(self, ctx: WriteContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: WriteContext, obj: JSON, old: JSON | None) -> Sequence[FieldError]:
        cidrs = _cidrs(obj)
        return _validate_update(cidrs, _cidrs(old)) if old else _validate(cidrs)

    def update_status(self, ctx: WriteContext, new: JSON, old: JSON) -> Change:
        """Metadata but for who manages which field stays as it was; the other kinds let `/status` change it."""
        meta = dict(old["metadata"])
        managers = new["metadata"].get("managedFields")
        if managers:
            meta["managedFields"] = managers
        else:
            meta.pop("managedFields", None)
        return super().update_status(ctx, old | {"metadata": meta, "status": new.get("status") or {}}, old)


def _cidrs(obj: JSON) -> list[str]:
    return (obj.get("spec") or {}).get("cidrs") or []


def _validate(cidrs: list[str]) -> list[FieldError]:
    if not cidrs:
        return [required(_CIDRS, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid(_CIDRS, {"CIDRs": cidrs}, "may only hold up to 2 values")]
    errors = [error for index, cidr in enumerate(cidrs) for error in strict_cidr(f"{_CIDRS}[{index}]", cidr)]
    families = [cidr_family(cidr) for cidr in cidrs]
    if len(set(families)) < len(cidrs):
        errors.append(invalid(_CIDRS, cidrs, _ONE_A_FAMILY))
    return errors


def _validate_update(new: list[str], old: list[str]) -> list[FieldError]:
    if (len(old), len(new)) == (1, 2):
        return [*immutable(f"{_CIDRS}[0]", new[0], old[0]), *_validate(new)]
    if len(old) != len(new):
        return [invalid(_CIDRS, new, IMMUTABLE)]
    pairs = enumerate(zip(new, old, strict=True))
    return [error for index, (now, was) in pairs for error in immutable(f"{_CIDRS}[{index}]", now, was)]
