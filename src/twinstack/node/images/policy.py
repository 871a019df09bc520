"""Whether a container's image is there, and what is told when it is not: in kubelet's words. Pure.

This node pulls no images, whatever a container's imagePullPolicy says: one that is missing never comes by waiting.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

# Host and port, path, tag, digest (the distribution project's reference grammar).
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[A-Za-z0-9+.:_-]+)?"
)


class Event(NamedTuple):
    type: str
    reason: str
    message: str


class Verdict(NamedTuple):
    """`reason` is why the container waits; empty when it can start."""

    reason: str
    message: str
    events: list[Event]


def judge(image: str, policy: str, *, present: bool, hint: str) -> Verdict:
    """`hint` says why nothing is pulled, to those who did not ask for that with the policy Never."""
    if not _REFERENCE.fullmatch(image):
        quoted = json.dumps(image)
        message = f"Failed to apply default image tag {quoted}: couldn't parse image name {quoted}: "
        return _waiting("InvalidImageName", "InspectFailed", message + "invalid reference format")
    if present:
        message = f'Container image "{image}" already present on machine and can be accessed by the pod'
        return Verdict("", "", [Event("Normal", "Pulled", message)])
    why = " with pull policy of Never" if policy == "Never" else f": {hint}"
    return _waiting("ErrImageNeverPull", "ErrImageNeverPull", f'Container image "{image}" is not present{why}')


def _waiting(reason: str, event: str, message: str) -> Verdict:
    return Verdict(reason, message, [Event("Warning", event, message), Event("Warning", "Failed", f"Error: {reason}")])
