"""Which of the registry passwords in a pod's Secrets are for an image, as kubelet's keyring finds them."""

import base64
import json
from typing import Any

import pytest

from twinstack.node.images.credentials import Credentials, Entry, entries, matching
from twinstack.node.images.reference import parse

MINE = Credentials("me", "pass:word")
AUTH = base64.b64encode(b"me:pass:word").decode()


def secret(**auths: Any) -> dict[str, bytes]:
    return {".dockerconfigjson": json.dumps({"auths": auths}).encode()}


def test_forms() -> None:
    assert entries(secret(**{"ghcr.io": {"auth": AUTH}})) == [Entry("ghcr.io", MINE)]
    assert entries(secret(**{"ghcr.io": {"username": "me", "password": "pass:word"}})) == [Entry("ghcr.io", MINE)]
    assert entries({".dockercfg": json.dumps({"ghcr.io": {"auth": AUTH}}).encode()}) == [Entry("ghcr.io", MINE)]
    token = entries(secret(**{"x.io": {"auth": AUTH, "identitytoken": "t"}}))
    assert token[0].credentials.identity_token == "t"
    assert entries({".dockerconfigjson": b"{}"}) == []


@pytest.mark.parametrize(
    "data",
    [
        {},
        {".dockerconfigjson": b"secret"},
        {".dockerconfigjson": b"[]"},
        {".dockerconfigjson": b"[" * 100_000},
        secret(x="secret"),
        secret(x={"auth": "secret!"}),
        secret(x={"auth": base64.b64encode(b"secret").decode()}),
        secret(x={"auth": base64.b64encode(b"\xff:").decode()}),
    ],
)
def test_what_cannot_be_read_is_not_quoted(data: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"^its? ") as caught:
        entries(data)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "image", "fits"),
    [
        ("https://index.docker.io/v1/", "nginx", True),
        ("docker.io", "me/app:1", True),
        ("ghcr.io", "ghcr.io/me/app", True),
        ("ghcr.io", "ghcr.io.evil.org/me/app", False),
        ("https://ghcr.io/v2/", "ghcr.io/me/app", True),
        ("ghcr.io/me", "ghcr.io/me/app", True),
        ("ghcr.io/me", "ghcr.io/meow/app", False),
        ("*.dkr.ecr.eu.amazonaws.com", "1.dkr.ecr.eu.amazonaws.com/x", True),
        ("*.amazonaws.com", "a.b.amazonaws.com/x", False),
        ("*", "ghcr.io/x", False),
        ("localhost:5000", "localhost:5000/x", True),
        ("localhost", "localhost:5000/x", False),
        ("[::1]:5000", "[::1]:5000/x", True),
    ],
)
def test_places(place: str, image: str, fits: bool) -> None:
    known = entries(secret(**{place: {"auth": AUTH}}))
    assert matching(known, parse(image)) == ([MINE] if fits else [])


def test_the_longest_place_comes_first_and_none_twice() -> None:
    other = Credentials("other", "")
    known = [Entry("ghcr.io", MINE), Entry("ghcr.io/me", other), Entry("*.io", MINE)]
    assert matching(known, parse("ghcr.io/me/app")) == [other, MINE]
