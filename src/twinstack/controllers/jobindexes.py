"""Completion indexes of a Job: as text of status.completedIndexes (`0-2,5`), and of its Pods (KEP-2214). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from twinstack.api.core import Pod

INDEX = "batch.kubernetes.io/job-completion-index"  # a label and an annotation of Pods
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse(text: str | None, completions: int) -> set[int]:
    """The indexes below `completions` that a text lists; what cannot be read is left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        low, dash, high = part.partition("-")
        if low.isdecimal() and (high.isdecimal() or not dash):
            found.update(range(int(low), min(int(high or low), completions - 1) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """Ascending, with runs of two and more as a range: `1,3-5`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def index_of(pod: Pod) -> int:
    """The index of a Pod; -1 when it has none."""
    return _number(pod, INDEX, -1)


def failures_of(pod: Pod) -> int:
    """How often its index had failed when it was made."""
    return _number(pod, FAILURES, 0)


def ignored_of(pod: Pod) -> int:
    return _number(pod, IGNORED, 0)


def _number(pod: Pod, annotation: str, otherwise: int) -> int:
    text = pod.metadata.annotations.get(annotation, "")
    return int(text) if text.isdecimal() else otherwise
