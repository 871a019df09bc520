"""What judges a write after access has been granted and before the kind's strategy: who writes what, over what.

A check looks at the whole object, as authorization cannot: whether a role gives away more than its writer has,
whether a node writes about itself. Checks refuse and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from twinstack.server.messages import Route, UserInfo

JSON = dict[str, Any]


class Attempt(msgspec.Struct, frozen=True):
    """One write. `new` is the object as it would be, defaulted; None when it is to go. `old` is what is stored; None
    when it is to be made. Neither may be changed."""

    route: Route
    name: str
    user: UserInfo
    new: JSON | None
    old: JSON | None


Check = Callable[[Attempt], None]
"""Raises StatusError to refuse; must not wait."""
