"""What the LimitRanges of a namespace give to, and forbid, a new Pod or claim (admission plugin LimitRanger)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from twinstack.api.quotas.pods import of_containers
from twinstack.api.resources import resource
from twinstack.api.scalars import quantity
from twinstack.server.strategy.base import WriteContext

JSON = dict[str, Any]

RANGES = resource("", "limitranges")
PLUGIN = "LimitRanger"

_ANNOTATION = "kubernetes.io/limit-ranger"
_CONTAINERS = (("containers", "container"), ("initContainers", "init container"))


def apply_to_pod(ctx: WriteContext, pod: JSON) -> str:
    """Default requests and limits of containers, in place. Returns what is wrong, if anything."""
    items = _items(ctx, pod)
    if not items:
        return ""
    spec: JSON = pod["spec"]
    told: list[str] = []
    for item in items:
        if item.get("type") == "Container":
            told += _fill(spec, item)
    if told:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = annotations | {_ANNOTATION: f"LimitRanger plugin set: {'; '.join(told)}"}
    return _joined(error for item in items for error in _pod_errors(spec, item))


def check_claim(ctx: WriteContext, claim: JSON) -> str:
    """What is wrong with the size of a PersistentVolumeClaim, if anything."""
    asked = (claim["spec"].get("resources") or {}).get("requests") or {}
    items = [item for item in _items(ctx, claim) if item.get("type") == "PersistentVolumeClaim"]
    return _joined(
        error
        for item in items
        for bound in ("min", "max")
        for name, limit in (item.get(bound) or {}).items()
        for error in _bound_errors("PersistentVolumeClaim", bound, name, limit, (("request", asked.get(name)),))
    )


def _items(ctx: WriteContext, obj: JSON) -> list[JSON]:
    if PLUGIN in ctx.config.disabled_admission_plugins:
        return []
    ranges = ctx.reader.list(RANGES, obj["metadata"].get("namespace", ""))
    return [item for each in ranges for item in (each.get("spec") or {}).get("limits") or []]


def _joined(errors: Iterable[str]) -> str:
    found = list(dict.fromkeys(errors))
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]" if found else ""


def _fill(spec: JSON, item: JSON) -> Iterator[str]:
    """Fill in what containers leave out; tells what was set."""
    for field, title in _CONTAINERS:
        for container in spec.get(field) or []:
            for part, given, word in (("requests", "defaultRequest", "request"), ("limits", "default", "limit")):
                defaults: JSON = item.get(given) or {}
                resources = container.get("resources") or {}
                held = resources.get(part) or {}
                missing = sorted(defaults.keys() - held.keys())
                if missing:
                    container["resources"] = resources | {part: held | {name: defaults[name] for name in missing}}
                    yield f"{', '.join(missing)} {word} for {title} {container['name']}"


def _pod_errors(spec: JSON, item: JSON) -> Iterator[str]:
    kind = item.get("type")
    if kind == "Container":
        for field, _ in _CONTAINERS:
            for container in spec.get(field) or []:
                yield from _errors("Container", item, _amounts(container, "requests"), _amounts(container, "limits"))
    elif kind == "Pod":
        yield from _errors("Pod", item, of_containers(spec, "requests"), of_containers(spec, "limits"))


def _errors(kind: str, item: JSON, requests: JSON, limits: JSON) -> Iterator[str]:
    for bound in ("min", "max"):
        for name, limit in (item.get(bound) or {}).items():
            pairs = (("request", requests.get(name)), ("limit", limits.get(name)))
            yield from _bound_errors(kind, bound, name, limit, pairs if bound == "min" else pairs[::-1])
    for name, most in (item.get("maxLimitRequestRatio") or {}).items():
        yield from _ratio_errors(
            f"{name} max limit to request ratio per {kind} is {most}", most, requests.get(name), limits.get(name)
        )


def _bound_errors(
    kind: str, bound: str, name: str, enforced: str, pairs: Sequence[tuple[str, str | None]]
) -> Iterator[str]:
    """Of what is given (`request`, `limit`) the first must be there, and all must keep to the bound."""
    lowest = bound == "min"
    text = f"{'minimum' if lowest else 'maximum'} {name} usage per {kind} is {enforced}"
    if pairs[0][1] is None:
        yield f"{text}. No {pairs[0][0]} is specified"
        return
    for word, given in pairs:
        if given is not None and (
            quantity(given) < quantity(enforced) if lowest else quantity(given) > quantity(enforced)
        ):
            yield f"{text}, but {word} is {given}"
            return


def _ratio_errors(text: str, most: str, request: str | None, limit: str | None) -> Iterator[str]:
    for word, given in (("request", request), ("limit", limit)):
        if given is None or quantity(given) == 0:
            yield f"{text}, but no {word} is specified or {word} is 0"
            return
    ratio = quantity(str(limit)) / quantity(str(request))
    if ratio > quantity(most):
        yield f"{text}, but provided ratio is {ratio:.6f}"


def _amounts(container: JSON, part: str) -> JSON:
    return (container.get("resources") or {}).get(part) or {}
