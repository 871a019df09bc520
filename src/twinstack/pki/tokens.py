"""The static token file of kube-apiserver's `--token-auth-file`: one `token,user,uid[,"group,group"]` a line."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class TokenUser(NamedTuple):
    """Whom a token stands for."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()


def new_token() -> str:
    """A bearer token of 256 random bits."""
    return secrets.token_urlsafe(32)


def parse_tokens(text: str) -> dict[str, TokenUser]:
    """Read a token file's text; of a token that stands twice, the last line counts. Raises ValueError."""
    users: dict[str, TokenUser] = {}
    rows = csv.reader(io.StringIO(text), skipinitialspace=True, strict=True)
    try:
        for row in rows:
            if not row or row[0].startswith("#"):
                continue
            if len(row) < 3:
                raise ValueError(f"line {rows.line_num}: a token needs at least token, user and uid")
            token, name, uid = row[:3]
            if not token:
                raise ValueError(f"line {rows.line_num}: the token is empty")
            groups = tuple(filter(None, (group.strip() for group in row[3].split(",")))) if len(row) > 3 else ()
            users[token] = TokenUser(name, uid, groups)
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: {error}") from None
    return users


def read_tokens(path: Path | str) -> dict[str, TokenUser]:
    """Read a token file; raises OSError, or ValueError with the file's name and the line."""
    try:
        return parse_tokens(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def format_tokens(users: Mapping[str, TokenUser]) -> str:
    """The text of a token file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for token, user in users.items():
        writer.writerow([token, user.name, user.uid, *([",".join(user.groups)] if user.groups else [])])
    return out.getvalue()
