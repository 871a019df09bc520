"""Secret files keep their mode and are replaced whole; token files read as kube-apiserver reads them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from twinstack.pki.files import write_secret
from twinstack.pki.tokens import TokenUser, format_tokens, new_token, parse_tokens, read_tokens


def test_secret_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key.pem"
    write_secret(path, b"one")
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    write_secret(path, b"two", 0o644)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["key.pem"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_secret(tmp_path / "taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_tokens_round_trip(tmp_path: Path) -> None:
    users = {
        new_token(): TokenUser("admin", "1", ("system:masters", "ops")),
        new_token(): TokenUser("a, b", "2"),
    }
    path = tmp_path / "tokens.csv"
    write_secret(path, format_tokens(users).encode())
    assert read_tokens(path) == users


def test_token_file_forms() -> None:
    text = '# people\n\nt1,alice,7,"g1,g2"\nt2,bob,8\nt2,carol,9,g3\n'
    assert parse_tokens(text) == {"t1": TokenUser("alice", "7", ("g1", "g2")), "t2": TokenUser("carol", "9", ("g3",))}


@pytest.mark.parametrize(
    ("text", "message"), [("t,u\n", "line 1: a token needs"), ("a,b,c\n,u,1\n", "line 2: the token is empty")]
)
def test_bad_token_files(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_tokens(text)
