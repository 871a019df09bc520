"""Whether a container's image is there, has to be pulled, or is waited for: in kubelet's words. Pure.

As kubelet 1.36 (pkg/kubelet/images, by behaviour).
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from twinstack.api.gotext import go_quote
from twinstack.api.times import format_duration
from twinstack.node.images.reference import DEFAULT_TAG, InvalidReference, Reference, parse

FIRST_PAUSE, LONGEST_PAUSE = 10.0, 300.0  # seconds after an attempt; doubles
SHOWN = 2.0  # seconds that what went wrong is told before the pause is
FORGOTTEN = 2 * LONGEST_PAUSE  # after a pause


class Step(enum.Enum):
    """What to do about an image now."""

    START = "start"  # the container
    PULL = "pull"
    WAIT = "wait"


class Event(NamedTuple):
    type: str
    reason: str
    message: str


class Failure(NamedTuple):
    """The last attempt to pull: when it ended (Unix seconds), and how long to pause after it."""

    message: str
    at: float
    pause: float


class Verdict(NamedTuple):
    """`reason` is why the container waits. `wake_at`: when to look again, None if nothing changes by itself."""

    step: Step
    reason: str = ""
    message: str = ""
    events: tuple[Event, ...] = ()
    wake_at: float | None = None


def judge(image: str, policy: str, *, present: bool, own: bool, failure: Failure | None, now: float) -> Verdict:
    """`own`: built in, or of a place that is no registry: an image that is here is never looked for elsewhere."""
    quoted = go_quote(image)
    try:
        reference = parse(image)
    except InvalidReference as error:
        text = f"Failed to apply default image tag {quoted}: couldn't parse image name {quoted}: {error}"
        return _waiting("InvalidImageName", "InspectFailed", text)
    if present and (own or (policy or default_policy(reference)) != "Always"):
        text = f"Container image {quoted} already present on machine and can be accessed by the pod"
        return Verdict(Step.START, events=(Event("Normal", "Pulled", text),))
    if policy == "Never":
        text = f"Container image {quoted} is not present with pull policy of Never"
        return _waiting("ErrImageNeverPull", "ErrImageNeverPull", text)
    if failure is None or now >= failure.at + failure.pause:
        return Verdict(Step.PULL, events=(Event("Normal", "Pulling", f"Pulling image {quoted}"),))
    if now < failure.at + SHOWN:
        return Verdict(Step.WAIT, "ErrImagePull", failure.message, wake_at=failure.at + SHOWN)
    text = f"Back-off pulling image {quoted}"
    return Verdict(
        Step.WAIT,
        "ImagePullBackOff",
        f"{text}: ErrImagePull: {failure.message}",
        (Event("Normal", "BackOff", text), Event("Warning", "Failed", "Error: ImagePullBackOff")),
        failure.at + failure.pause,
    )


def default_policy(reference: Reference) -> str:
    """What the API writes where a container says nothing."""
    return "Always" if reference.tag in ("", DEFAULT_TAG) and not reference.digest else "IfNotPresent"


def pulled(image: str, seconds: float, waited: float, size: int) -> Event:
    """`seconds` of pulling, `waited` with the time before it began."""
    text = f"Successfully pulled image {go_quote(image)} in {_took(seconds)} ({_took(waited)} including waiting)"
    return Event("Normal", "Pulled", f"{text}. Image size: {size} bytes.")


def failed(image: str, why: str) -> tuple[Event, ...]:
    """An attempt to pull went wrong."""
    text = f"Failed to pull image {go_quote(image)}: {why}"
    return (Event("Warning", "Failed", text), Event("Warning", "Failed", "Error: ErrImagePull"))


def next_failure(last: Failure | None, message: str, now: float) -> Failure:
    """The pause doubles, unless the last one is long past."""
    if last is None or now - last.at > FORGOTTEN:
        return Failure(message, now, FIRST_PAUSE)
    return Failure(message, now, min(last.pause * 2, LONGEST_PAUSE))


def _waiting(reason: str, event: str, message: str) -> Verdict:
    events = (Event("Warning", event, message), Event("Warning", "Failed", f"Error: {reason}"))
    return Verdict(Step.WAIT, reason, message, events)


def _took(seconds: float) -> str:
    """In whole milliseconds."""
    return format_duration(int(seconds * 1000) / 1000)
