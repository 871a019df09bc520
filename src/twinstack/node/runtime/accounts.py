"""Users and groups as an image names them: its /etc/passwd and /etc/group (passwd(5), group(5)). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from twinstack.node.runtime.base import User


def resolve(
    named: str,
    user: int | None,
    group: int | None,
    groups: Sequence[int],
    passwd: str,
    group_file: str,
    *,
    strict: bool = False,
) -> User:
    """Whom a container runs as: `user` and `group` of its pod, or else `named`, `USER[:GROUP]` of its image.

    `groups` come on top of those that the image gives the user, or are all there are if `strict`
    (supplementalGroupsPolicy, KEP-3619). Raises ValueError in the words of container engines.
    """
    user_text, _, group_text = named.partition(":") if user is None else (str(user), "", "")
    entries = [line.split(":") for line in passwd.splitlines() if line.count(":") >= 6]
    memberships = [line.split(":") for line in group_file.splitlines() if line.count(":") >= 3]
    user_text = user_text or "0"
    entry = next((e for e in entries if user_text in (e[0], e[2])), None)
    if entry is None and not user_text.isdecimal():
        raise ValueError(f"unable to find user {user_text}: no matching entries in passwd file")
    number = int(entry[2]) if entry else int(user_text)
    if group is None:
        group = _group(group_text, memberships) if group_text else int(entry[3]) if entry else 0
    further: dict[int, None] = {}
    if entry and not strict:
        further |= {int(m[2]): None for m in memberships if entry[0] in m[3].split(",")}
    further |= dict.fromkeys(groups)
    further.pop(group, None)
    return User(number, group, tuple(further))


def _group(text: str, memberships: list[list[str]]) -> int:
    if text.isdecimal():
        return int(text)
    found = next((entry for entry in memberships if entry[0] == text), None)
    if found is None:
        raise ValueError(f"unable to find group {text}: no matching entries in group file")
    return int(found[2])
