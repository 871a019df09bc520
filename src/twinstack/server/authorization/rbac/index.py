"""Roles and bindings by whom they concern, kept with every change: a question costs what the asker's own bindings cost.

The keys are storage keys, the values what is stored, so that a watch cache can feed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from twinstack.server.authorization.rbac.rules import PolicyRule, Rule
from twinstack.server.messages import UserInfo

_SERVICE_ACCOUNT = "system:serviceaccount:"


class Subject(msgspec.Struct, frozen=True):
    """rbac.authorization.k8s.io/v1 Subject."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class RoleRef(msgspec.Struct, frozen=True):
    """rbac.authorization.k8s.io/v1 RoleRef."""

    kind: str = ""
    name: str = ""


class _Metadata(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _Role(msgspec.Struct):
    metadata: _Metadata
    rules: list[PolicyRule] | None = None


class _Binding(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    role_ref: RoleRef
    subjects: list[Subject] | None = None


_ROLE = msgspec.json.Decoder(_Role)
_BINDING = msgspec.json.Decoder(_Binding)


class Binding(NamedTuple):
    """A ClusterRoleBinding, or in a namespace a RoleBinding."""

    namespace: str
    name: str
    role: RoleRef
    subjects: tuple[Subject, ...]

    def describe(self, user: UserInfo) -> str:
        """Which binding of which role, and to whom, in upstream's words; `user` is one that it concerns."""
        mine = {("User", user.name), *(("Group", group) for group in user.groups)}
        subject = next(subject for subject in self.subjects if self._concerned(subject) in mine)
        name = subject.name
        if subject.kind == "ServiceAccount":
            name = f"{name}/{subject.namespace or self.namespace}"
        kind, own = ("RoleBinding", f"{self.name}/{self.namespace}") if self.namespace else (_CLUSTER, self.name)
        return f'{kind} "{own}" of {self.role.kind} "{self.role.name}" to {subject.kind} "{name}"'

    def concerned(self) -> list[tuple[str, str]]:
        """Kinds and names of the users and groups that it gives a role to; a service account is a user."""
        return list(dict.fromkeys(self._concerned(subject) for subject in self.subjects))

    def _concerned(self, subject: Subject) -> tuple[str, str]:
        if subject.kind == "ServiceAccount":
            namespace = subject.namespace or self.namespace
            return "User", f"{_SERVICE_ACCOUNT}{namespace}:{subject.name}" if namespace else ""
        return subject.kind, subject.name


_CLUSTER = "ClusterRoleBinding"
_NOTHING: Mapping[str, Binding] = {}


class PolicyIndex:
    """Which rules a user has in a namespace. A role is known by its namespace, empty for a ClusterRole, and name."""

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._bindings: dict[str, Binding] = {}
        self._by_subject: dict[tuple[str, str, str], dict[str, Binding]] = {}

    def put_role(self, value: bytes) -> None:
        """Take over a stored Role or ClusterRole."""
        role = _ROLE.decode(value)
        self._roles[(role.metadata.namespace, role.metadata.name)] = tuple(map(Rule, role.rules or ()))

    def drop_role(self, value: bytes) -> None:
        """Forget it; `value` is what was stored last."""
        meta = _ROLE.decode(value).metadata
        self._roles.pop((meta.namespace, meta.name), None)

    def put_binding(self, key: str, value: bytes) -> None:
        """Take over a stored RoleBinding or ClusterRoleBinding."""
        self.drop_binding(key)
        stored = _BINDING.decode(value)
        namespace = stored.metadata.namespace
        binding = Binding(namespace, stored.metadata.name, stored.role_ref, tuple(stored.subjects or ()))
        self._bindings[key] = binding
        for kind, name in binding.concerned():
            self._by_subject.setdefault((namespace, kind, name), {})[key] = binding

    def drop_binding(self, key: str) -> None:
        binding = self._bindings.pop(key, None)
        if binding is None:
            return
        for kind, name in binding.concerned():
            place = (binding.namespace, kind, name)
            others = self._by_subject[place]
            del others[key]
            if not others:
                del self._by_subject[place]

    def bindings_of(self, user: UserInfo, namespace: str) -> Iterator[Binding]:
        """Those of the cluster, then those of the namespace if there is one; each may come twice."""
        yield from self._concerning(user, "")
        if namespace:
            yield from self._concerning(user, namespace)

    def _concerning(self, user: UserInfo, namespace: str) -> Iterator[Binding]:
        by_subject = self._by_subject
        yield from by_subject.get((namespace, "User", user.name), _NOTHING).values()
        for group in user.groups:
            yield from by_subject.get((namespace, "Group", group), _NOTHING).values()

    def rules_of(self, role: RoleRef, namespace: str) -> tuple[Rule, ...] | None:
        """The rules of the role that a binding in `namespace` names; None if it does not exist."""
        return self._roles.get((namespace if role.kind == "Role" else "", role.name))


def missing(role: RoleRef) -> str:
    """That a role does not exist, in the words of upstream's listers."""
    return f'{role.kind.lower()}.rbac.authorization.k8s.io "{role.name}" not found'
