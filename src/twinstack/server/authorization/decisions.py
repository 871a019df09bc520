"""What is asked of an authorizer, and what it answers."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from twinstack.server.messages import UserInfo

JSON = dict[str, Any]

MASTERS = "system:masters"  # the group that may do everything, whatever the modes say
_NO_FIELDS: Mapping[str, str] = {}


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """One question: may `user` do `verb` on a resource, or on a path that is none (then `resource_request` is false
    and `verb` the method in lower case).

    Names as in authorization.k8s.io/v1 ResourceAttributes. A namespace's own name is also its `namespace`.
    `fields` are the values that a list, watch or deletecollection demands of fields (`fieldSelector=a=b`).
    """

    user: UserInfo
    verb: str
    resource_request: bool = True
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: Mapping[str, str] = _NO_FIELDS


class Verdict(enum.Enum):
    """`DENY` ends the questions; after `NO_OPINION` the next mode is asked."""

    ALLOW = enum.auto()
    DENY = enum.auto()
    NO_OPINION = enum.auto()


class Decision(NamedTuple):
    """`reason` is for people: part of a refusal's message and of access reviews; `error` only of the latter."""

    verdict: Verdict
    reason: str = ""
    error: str = ""

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.ALLOW


class Rules(NamedTuple):
    """What somebody may do in a namespace: rbac.authorization.k8s.io/v1 PolicyRules, as far as a mode can tell."""

    rules: Sequence[JSON] = ()
    incomplete: bool = False
    error: str = ""


class Authorizer(Protocol):
    """One mode of authorization, or several in a row. Answers from memory, in microseconds; must not fail."""

    def authorize(self, attributes: Attributes) -> Decision: ...

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        """For SelfSubjectRulesReview. A mode that cannot list what it allows says so: `incomplete` and `error`."""


class Union:
    """Asks one after the other until somebody has an opinion."""

    def __init__(self, members: Sequence[Authorizer]) -> None:
        self._members = tuple(members)

    def authorize(self, attributes: Attributes) -> Decision:
        reasons, errors = [], []
        for member in self._members:
            decision = member.authorize(attributes)
            if decision.verdict is not Verdict.NO_OPINION:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
            if decision.error:
                errors.append(decision.error)
        return Decision(Verdict.NO_OPINION, "\n".join(reasons), aggregate(errors))

    def rules_for(self, user: UserInfo, namespace: str) -> Rules:
        rules: list[JSON] = []
        errors: list[str] = []
        incomplete = False
        for member in self._members:
            found = member.rules_for(user, namespace)
            rules += found.rules
            incomplete = incomplete or found.incomplete
            if found.error:
                errors.append(found.error)
        return Rules(rules, incomplete, aggregate(errors))


def aggregate(errors: Sequence[str]) -> str:
    """Errors in one text, as apimachinery's NewAggregate puts it: each once, several in brackets."""
    once = list(dict.fromkeys(errors))
    return f"[{', '.join(once)}]" if len(once) > 1 else "".join(once)
