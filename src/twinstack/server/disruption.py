"""Whether a PodDisruptionBudget lets a Pod be evicted (policy/v1). Pure.

The budgets' status is kept by a controller. What it has counted is taken from here, one eviction at a time, so that
many evictions at once cannot take more than there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from twinstack.api import times
from twinstack.api.errors import StatusError, forbidden, too_many_requests
from twinstack.api.meta import LabelSelector as TypedSelector
from twinstack.api.selectors import LabelSelector

JSON = dict[str, Any]

MOST_DISRUPTED = 2000  # evictions that a controller has not yet seen to their end

_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
_ALLOWED = "DisruptionAllowed"


def ignores_budgets(pod: JSON) -> bool:
    """A Pod that does not run yet, or no longer, or is leaving: its eviction disrupts nothing."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(pod["metadata"].get("deletionTimestamp"))


def of_pod(pod: JSON, budgets: Iterable[JSON]) -> list[JSON]:
    """Those of the budgets in its namespace that select it."""
    labels = pod["metadata"].get("labels") or {}
    return [budget for budget in budgets if _selector(budget).matches(labels)]


def _selector(budget: JSON) -> LabelSelector:
    selector = (budget.get("spec") or {}).get("selector")
    return LabelSelector.from_object(None if selector is None else msgspec.convert(selector, TypedSelector))


def is_ready(pod: JSON) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def may_go_unready(budget: JSON) -> bool:
    """Whether a Pod that is not ready may be evicted without being counted (KEP-3017)."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = int(status.get("desiredHealthy", 0))
    return 0 < desired <= int(status.get("currentHealthy", 0))


def take(budget: JSON, pod_name: str) -> JSON:
    """The budget after one more eviction, which changes its argument. Raises StatusError 403, 429."""
    meta, status = budget["metadata"], budget.setdefault("status", {})
    name = meta["name"]
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        raise being_processed(name)
    allowed, disrupted = status.get("disruptionsAllowed", 0), status.get("disruptedPods") or {}
    if allowed < 0:
        raise forbidden("poddisruptionbudget", name, "pdb disruptions allowed is negative", "policy")
    if len(disrupted) > MOST_DISRUPTED:
        detail = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise forbidden("poddisruptionbudget", name, detail, "policy")
    if allowed == 0:
        raise _exhausted(name, status)
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = disrupted | {pod_name: times.now()}
    if allowed == 1:
        _tell_exhausted(status)
    return budget


def being_processed(name: str) -> StatusError:
    """It may be allowed in a moment, when the budget's numbers are those of now."""
    return too_many_requests(
        _VIOLATES, _cause(f"The disruption budget {name} is still being processed by the server."), retry_after=10
    )


def _exhausted(name: str, status: JSON) -> StatusError:
    known = _condition(status)
    if known is not None and known.get("reason") == "SyncFailed":
        text = (
            f"The disruption budget {name} does not allow evicting pods currently because it failed sync:"
            f" {known.get('message', '')}"
        )
    else:
        desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
        text = f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    return too_many_requests(_VIOLATES, _cause(text))


def _cause(message: str) -> JSON:
    return {"reason": "DisruptionBudget", "message": message}


def _condition(status: JSON) -> JSON | None:
    return next((each for each in status.get("conditions") or [] if each.get("type") == _ALLOWED), None)


def _tell_exhausted(status: JSON) -> None:
    """Nothing more is allowed, and the condition says so at once."""
    told = {
        "type": _ALLOWED,
        "status": "False",
        "observedGeneration": status.get("observedGeneration", 0),
        "lastTransitionTime": times.now(),
        "reason": "InsufficientPods",
        "message": "",
    }
    known = _condition(status)
    if known is None:
        status["conditions"] = [*(status.get("conditions") or []), told]
        return
    if known.get("status") == "False":
        told["lastTransitionTime"] = known.get("lastTransitionTime")
    known.update(told)
