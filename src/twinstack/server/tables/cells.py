"""What cells are made of: names, ages, labels, lists that are cut short."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinstack.server.subresources import selector_text
from twinstack.server.tables.ages import age

JSON = dict[str, Any]
Cells = list[Any]
Table = tuple[str, Callable[[JSON, float], Cells]]  # columns, and what makes the cells

NONE = "<none>"
UNSET = "<unset>"
_SHOWN = 3  # how many ports and addresses fit


def name_of(obj: JSON) -> str:
    return str(obj["metadata"].get("name", ""))


def age_of(obj: JSON, now: float) -> str:
    return age(obj["metadata"].get("creationTimestamp"), now)


def name_and_age(obj: JSON, now: float) -> Cells:
    return [name_of(obj), age_of(obj, now)]


def labels_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) if labels else NONE


def selector_of(selector: JSON | None) -> str:
    """A LabelSelector; one that is missing or empty is shown alike."""
    return selector_text(selector or {}) or NONE


def first_few(texts: Sequence[str], none: str = UNSET) -> str:
    shown = ",".join(texts[:_SHOWN])
    if not shown:
        return none
    return f"{shown} + {len(texts) - _SHOWN} more..." if len(texts) > _SHOWN else shown


def template_cells(template: JSON) -> Cells:
    """Containers, Images."""
    containers: Sequence[JSON] = (template.get("spec") or {}).get("containers") or []
    return [",".join(container.get(key, "") for container in containers) for key in ("name", "image")]
