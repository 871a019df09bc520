"""Which node a user is. Pure."""

from __future__ import annotations

from twinstack.server.messages import UserInfo

PREFIX = "system:node:"
GROUP = "system:nodes"


def node_of(user: UserInfo) -> str | None:
    """The name of the node that a user is, empty if it has none; None for everybody else."""
    if not user.name.startswith(PREFIX) or GROUP not in user.groups:
        return None
    return user.name[len(PREFIX) :]
