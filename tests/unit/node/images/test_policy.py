from __future__ import annotations

import pytest

from twinstack.node.images.policy import Verdict, judge

HINT = "this node pulls no images"


def missing(image: str = "nginx:1", policy: str = "IfNotPresent") -> Verdict:
    return judge(image, policy, present=False, hint=HINT)


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
def test_an_image_that_is_there(policy: str) -> None:
    verdict = judge("twinstack.local/host", policy, present=True, hint=HINT)
    assert verdict.reason == ""
    assert [tuple(event) for event in verdict.events] == [
        (
            "Normal",
            "Pulled",
            'Container image "twinstack.local/host" already present on machine and can be accessed by the pod',
        )
    ]


@pytest.mark.parametrize(
    ("policy", "why"),
    [("Never", " with pull policy of Never"), ("IfNotPresent", f": {HINT}"), ("Always", f": {HINT}")],
)
def test_an_image_that_is_not_there(policy: str, why: str) -> None:
    verdict = missing(policy=policy)
    text = f'Container image "nginx:1" is not present{why}'
    assert (verdict.reason, verdict.message) == ("ErrImageNeverPull", text)
    assert [tuple(event) for event in verdict.events] == [
        ("Warning", "ErrImageNeverPull", text),
        ("Warning", "Failed", "Error: ErrImageNeverPull"),
    ]


@pytest.mark.parametrize("image", ["", "nginx/UPPER", "a b", "nginx:", "http://x/y", "-x", "a//b", "nginx:bad tag"])
def test_names_that_are_none(image: str) -> None:
    verdict = missing(image)
    assert verdict.reason == "InvalidImageName"
    assert verdict.message.endswith(f'couldn\'t parse image name "{image}": invalid reference format')


@pytest.mark.parametrize(
    "image",
    [
        "nginx",
        "nginx:1.27",
        "library/nginx:1-alpine",
        "registry.k8s.io/pause:3.10",
        "localhost:5000/a/b_c/d__e:x",
        "[fd00::1]:5000/web",
        "ghcr.io/a/b@sha256:" + "0" * 64,
        "Registry.Example.com/a",
    ],
)
def test_names(image: str) -> None:
    assert missing(image).reason == "ErrImageNeverPull"
