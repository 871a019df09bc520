from __future__ import annotations

import pytest

from twinstack.node.images import FIRST_PAUSE, LONGEST_PAUSE, SHOWN, Pulls, Verdict

NOW = 1000.0
HINT = "this node pulls no images"


def judge(pulls: Pulls, image: str = "nginx:1", policy: str = "IfNotPresent", now: float = NOW) -> Verdict:
    return pulls.judge(image, policy, present=False, hint=HINT, now=now)


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
def test_an_image_that_is_there(policy: str) -> None:
    verdict = Pulls().judge("twinstack.local/host", policy, present=True, hint=HINT, now=NOW)
    assert verdict.reason == ""
    assert [tuple(event) for event in verdict.events] == [
        (
            "Normal",
            "Pulled",
            'Container image "twinstack.local/host" already present on machine and can be accessed by the pod',
        )
    ]


def test_never_pull() -> None:
    verdict = judge(Pulls(), policy="Never")
    text = 'Container image "nginx:1" is not present with pull policy of Never'
    assert (verdict.reason, verdict.message, verdict.retry_at) == ("ErrImageNeverPull", text, None)
    assert [tuple(event) for event in verdict.events] == [
        ("Warning", "ErrImageNeverPull", text),
        ("Warning", "Failed", "Error: ErrImageNeverPull"),
    ]


@pytest.mark.parametrize("image", ["", "nginx/UPPER", "a b", "nginx:", "http://x/y", "-x", "a//b", "nginx:bad tag"])
def test_names_that_are_none(image: str) -> None:
    verdict = judge(Pulls(), image)
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
    assert judge(Pulls(), image).reason == "ErrImagePull"


def test_pauses_between_pulls_double() -> None:
    pulls, now, pause = Pulls(), NOW, FIRST_PAUSE
    for _ in range(8):
        verdict = judge(pulls, now=now)
        assert (verdict.reason, verdict.message, verdict.retry_at) == ("ErrImagePull", HINT, now + SHOWN)
        assert [event.reason for event in verdict.events] == ["Pulling", "Failed", "Failed"]
        assert judge(pulls, now=now + 1) == Verdict("ErrImagePull", HINT, [], now + SHOWN)
        waiting = judge(pulls, now=now + SHOWN)
        assert waiting.reason == "ImagePullBackOff"
        assert waiting.message == f'Back-off pulling image "nginx:1": ErrImagePull: {HINT}'
        assert waiting.retry_at == now + pause
        assert [event.message for event in waiting.events] == [
            'Back-off pulling image "nginx:1"',
            "Error: ImagePullBackOff",
        ]
        assert judge(pulls, now=now + pause - 0.1).events == []
        now += pause
        pause = min(2 * pause, LONGEST_PAUSE)
    assert pause == LONGEST_PAUSE


def test_an_image_that_came_ends_the_pauses() -> None:
    pulls = Pulls()
    judge(pulls)
    pulls.judge("nginx:1", "IfNotPresent", present=True, hint=HINT, now=NOW + 1)
    assert judge(pulls, now=NOW + 2).events != []
