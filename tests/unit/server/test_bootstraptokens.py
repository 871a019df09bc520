"""Bootstrap tokens: which Secrets count, and what they make of whoever shows them."""

from __future__ import annotations

import base64
import json
import time

import pytest
from tests.service_server import MemoryStore

from twinstack.server.authentication import Known
from twinstack.server.bootstraptokens import SECRETS, TYPE, BootstrapTokens, groups_of
from twinstack.server.messages import UserInfo

TOKEN = "abcdef.0123456789abcdef"
DATA = {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}


def tokens(kind: str = TYPE, **data: str) -> BootstrapTokens:
    store = MemoryStore()
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in (DATA | data).items()}
    key = SECRETS.key("kube-system", "bootstrap-token-abcdef")
    store.records[key] = json.dumps({"metadata": {}, "type": kind, "data": encoded}).encode()
    return BootstrapTokens(store, ["us"])


def test_a_token_makes_a_bootstrapper() -> None:
    groups = ("system:bootstrappers", "system:bootstrappers:a", "system:authenticated")
    known = tokens(**{"auth-extra-groups": "system:bootstrappers:a"}).authenticate(TOKEN, b"")
    assert known == Known(UserInfo("system:bootstrap:abcdef", groups), ("us",))
    assert tokens().authenticate(TOKEN, b"", ["others"]) is None
    assert tokens("Opaque").authenticate(TOKEN, b"") is None
    for wrong in ("abcdef.0123456789abcdeX", "abcdeg.0123456789abcdef", "abcdef", "", "a.b.c"):
        assert tokens().authenticate(wrong, b"") is None


@pytest.mark.parametrize(
    "change",
    [
        {"token-secret": "fedcba9876543210"},
        {"token-id": "fedcba"},
        {"usage-bootstrap-authentication": "false"},
        {"expiration": "2020-01-01T00:00:00Z"},
        {"expiration": "tomorrow"},
        {"auth-extra-groups": "system:masters"},
        {"auth-extra-groups": "system:bootstrappers:a,system:bootstrappers:"},
    ],
)
def test_what_does_not_count(change: dict[str, str]) -> None:
    assert groups_of("abcdef", "0123456789abcdef", DATA | change, time.time()) is None
    assert groups_of("abcdef", "0123456789abcdef", DATA | {"expiration": "2999-01-01T00:00:00Z"}, time.time())
