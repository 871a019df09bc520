"""Whether a container's image is there, and what is told when it is not: as kubelet's image manager does. Pure.

This node pulls no images; one that is missing may still be loaded later, so it is looked for again, after pauses
that double.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0  # seconds between two pulls
SHOWN = 5.0  # seconds for which a failure is shown as such, before the pause is

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
    """`reason` is why the container waits; empty when it can start. `events`: those that are new.

    `retry_at`: when to ask again, Unix seconds; None when only another pod could be better.
    """

    reason: str
    message: str
    events: list[Event]
    retry_at: float | None = None


class _Failure:
    __slots__ = ("at", "pause", "told")

    def __init__(self, at: float, pause: float) -> None:
        self.at = at
        self.pause = pause
        self.told = False  # that its pause has begun


class Pulls:
    """The pauses of one pod's images."""

    def __init__(self) -> None:
        self._failures: dict[str, _Failure] = {}

    def judge(self, image: str, policy: str, *, present: bool, hint: str, now: float) -> Verdict:
        """`hint` says why nothing is pulled."""
        if not _REFERENCE.fullmatch(image):
            quoted = json.dumps(image)
            message = f"Failed to apply default image tag {quoted}: couldn't parse image name {quoted}: "
            message += "invalid reference format"
            return _waiting("InvalidImageName", message, [Event("Warning", "InspectFailed", message)])
        if present:
            self._failures.pop(image, None)
            message = f'Container image "{image}" already present on machine and can be accessed by the pod'
            return Verdict("", "", [Event("Normal", "Pulled", message)])
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            return _waiting("ErrImageNeverPull", message, [Event("Warning", "ErrImageNeverPull", message)])
        return self._pull(image, hint, now)

    def _pull(self, image: str, hint: str, now: float) -> Verdict:
        failure = self._failures.get(image)
        if failure is not None and now < failure.at + SHOWN:
            return Verdict("ErrImagePull", hint, [], failure.at + SHOWN)
        if failure is not None and now < failure.at + failure.pause:
            told, failure.told = failure.told, True
            message = f'Back-off pulling image "{image}": ErrImagePull: {hint}'
            verdict = _waiting(
                "ImagePullBackOff",
                message,
                [Event("Normal", "BackOff", f'Back-off pulling image "{image}"')],
                failure.at + failure.pause,
            )
            return verdict._replace(events=[]) if told else verdict
        pause = min(failure.pause * 2, LONGEST_PAUSE) if failure is not None else FIRST_PAUSE
        self._failures[image] = _Failure(now, pause)
        events = [
            Event("Normal", "Pulling", f'Pulling image "{image}"'),
            Event("Warning", "Failed", f'Failed to pull image "{image}": {hint}'),
        ]
        return _waiting("ErrImagePull", hint, events, now + SHOWN)


def _waiting(reason: str, message: str, events: list[Event], retry_at: float | None = None) -> Verdict:
    return Verdict(reason, message, [*events, Event("Warning", "Failed", f"Error: {reason}")], retry_at)
