"""Users from certificates, tokens and impersonation headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinstack.api.errors import StatusError
from twinstack.server.authentication import (
    ANONYMOUS,
    Authenticator,
    TokenFileError,
    certificate_user,
    read_tokens,
)
from twinstack.server.messages import UserInfo

ALICE = UserInfo(name="alice", groups=("devs", "system:authenticated"), uid="7")


def certificate(*pairs: tuple[str, str]) -> dict[str, object]:
    """As `ssl` shows a certificate's subject."""
    return {"subject": tuple((pair,) for pair in pairs)}


def test_a_certificate_names_user_and_groups() -> None:
    subject = certificate(("organizationName", "g1"), ("organizationName", "g2"), ("commonName", "bob"))
    assert certificate_user(subject) == UserInfo(name="bob", groups=("g1", "g2", "system:authenticated"))
    for nobody in (None, {}, certificate(("organizationName", "g1")), certificate(("commonName", ""))):
        assert certificate_user(nobody) is ANONYMOUS


def test_token_files(tmp_path: Path) -> None:
    file = tmp_path / "tokens.csv"
    file.write_text('t1,alice,7,"devs"\n\n# comment\nt2,bob,8,"a, b"\nt3,eve,9\nt1,other,1\n')
    assert read_tokens(str(file)) == {
        "t1": ALICE,
        "t2": UserInfo(name="bob", groups=("a", "b", "system:authenticated"), uid="8"),
        "t3": UserInfo(name="eve", groups=("system:authenticated",), uid="9"),
    }
    for bad in ("t1,alice\n", ",alice,7\n", "t1,,7\n"):
        file.write_text(bad)
        with pytest.raises(TokenFileError, match=r"tokens\.csv:1"):
            read_tokens(str(file))


def test_bearer_tokens() -> None:
    authenticator = Authenticator({"t1": ALICE})
    for header in ("Bearer t1", "bearer t1"):
        assert authenticator.authenticate(ANONYMOUS, {"authorization": header}) == ALICE
    assert authenticator.authenticate(ANONYMOUS, {}) is ANONYMOUS
    assert authenticator.authenticate(ANONYMOUS, {"authorization": "Basic dTpw"}) is ANONYMOUS
    with pytest.raises(StatusError) as caught:
        authenticator.authenticate(ANONYMOUS, {"authorization": "Bearer nope"})
    assert (caught.value.code, caught.value.reason, caught.value.message) == (401, "Unauthorized", "Unauthorized")


def test_a_certificate_comes_before_a_token() -> None:
    bob = UserInfo(name="bob")
    assert Authenticator({"t1": ALICE}).authenticate(bob, {"authorization": "Bearer nope"}) == bob
