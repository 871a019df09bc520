"""Whether an image is there, is pulled or is waited for, in kubelet's words; references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinstack.node.images import policy, reference
from twinstack.node.images.policy import Event, Failure, Step, Verdict, judge

NOW = 1_000_000.0


def missing(image: str, image_policy: str = "IfNotPresent", failure: Failure | None = None) -> Verdict:
    return judge(image, image_policy, present=False, own=False, failure=failure, now=NOW)


@pytest.mark.parametrize(
    ("image_policy", "own", "step"),
    [
        ("IfNotPresent", False, Step.START),
        ("Never", False, Step.START),
        ("Always", False, Step.PULL),
        ("Always", True, Step.START),
        ("", False, Step.PULL),  # the tag is latest
        ("", True, Step.START),
    ],
)
def test_an_image_that_is_here(image_policy: str, own: bool, step: Step) -> None:
    verdict = judge("echo", image_policy, present=True, own=own, failure=None, now=NOW)
    assert verdict.step is step
    text = 'Container image "echo" already present on machine and can be accessed by the pod'
    pulling = Event("Normal", "Pulling", 'Pulling image "echo"')
    assert verdict.events == ((Event("Normal", "Pulled", text),) if step is Step.START else (pulling,))


def test_one_that_is_never_pulled() -> None:
    text = 'Container image "nginx:1.27" is not present with pull policy of Never'
    verdict = missing("nginx:1.27", "Never")
    assert verdict[:3] == (Step.WAIT, "ErrImageNeverPull", text)
    assert verdict.events == (
        Event("Warning", "ErrImageNeverPull", text),
        Event("Warning", "Failed", "Error: ErrImageNeverPull"),
    )
    assert verdict.wake_at is None


def test_what_went_wrong_is_shown_then_the_pause_then_it_is_tried_again() -> None:
    failure = policy.next_failure(None, "no such host", NOW)
    assert failure == Failure("no such host", NOW, 10.0)
    shown = missing("x", failure=failure)
    assert shown == Verdict(Step.WAIT, "ErrImagePull", "no such host", wake_at=NOW + policy.SHOWN)
    paused = judge("x", "", present=False, own=False, failure=failure, now=NOW + 5)
    assert paused.reason == "ImagePullBackOff"
    assert paused.message == 'Back-off pulling image "x": ErrImagePull: no such host'
    assert paused.events == (
        Event("Normal", "BackOff", 'Back-off pulling image "x"'),
        Event("Warning", "Failed", "Error: ImagePullBackOff"),
    )
    assert paused.wake_at == NOW + 10
    assert judge("x", "", present=False, own=False, failure=failure, now=NOW + 10).step is Step.PULL


def test_pauses_double_up_to_five_minutes_and_are_forgotten() -> None:
    failure, now, pauses = None, NOW, []
    for _ in range(7):
        failure = policy.next_failure(failure, "", now)
        pauses.append(failure.pause)
        now += failure.pause
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    assert policy.next_failure(failure, "", now + 700).pause == 10


def test_how_a_pull_is_told_of() -> None:
    text = 'Successfully pulled image "a" in 1.234s (1m2.5s including waiting). Image size: 77 bytes.'
    assert policy.pulled("a", 1.2345, 62.5, 77) == Event("Normal", "Pulled", text)
    assert "in 12ms (1h0m0s including" in policy.pulled("a", 0.012, 3600, 1).message
    assert policy.failed("a", "why") == (
        Event("Warning", "Failed", 'Failed to pull image "a": why'),
        Event("Warning", "Failed", "Error: ErrImagePull"),
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("me/app:1", "docker.io/me/app:1"),
        ("index.docker.io/x", "docker.io/library/x:latest"),
        ("docker.io/x/y", "docker.io/x/y:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("Foo/x", "Foo/x:latest"),  # capitals are no path
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("[2001:db8::1]:5000/x", "[2001:db8::1]:5000/x:latest"),
        ("ghcr.io/a__b/c--d", "ghcr.io/a__b/c--d:latest"),
        (f"x:1@sha256:{'a' * 64}", f"docker.io/library/x@sha256:{'a' * 64}"),
    ],
)
def test_references(text: str, key: str) -> None:
    assert reference.parse(text).key == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("x:" + "t" * 129, "invalid reference format"),
        ("UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("ghcr.io/Upper:1", "invalid reference format: repository name (Upper) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("x" * 256, "repository name must not be more than 255 characters"),
        ("x@sha256:" + "a" * 63, "invalid checksum digest length"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("x@" + "a" * 64, "invalid reference format"),
        ("../x", "invalid reference format"),
        ("x\n", "invalid reference format"),
    ],
)
def test_what_is_no_reference(text: str, why: str) -> None:
    with pytest.raises(reference.InvalidReference) as caught:
        reference.parse(text)
    assert str(caught.value) == why
    verdict = missing(text)
    assert verdict.step is Step.WAIT
    assert verdict.reason == "InvalidImageName"
    assert verdict.events[0].reason == "InspectFailed"
    assert verdict.message.startswith("Failed to apply default image tag ")
    assert verdict.message.endswith(why)


@given(st.text(max_size=80))
def test_a_normalised_reference_is_its_own_normal_form(text: str) -> None:
    try:
        found = reference.parse(text)
    except reference.InvalidReference:
        return
    assert reference.parse(str(found)) == found
    assert reference.parse(found.key).key == found.key
