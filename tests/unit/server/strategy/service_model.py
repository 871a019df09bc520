"""What becomes of policy, families and cluster IPs of a Service, as a table of rules of its own.

Written from the documented behaviour of kube-apiserver 1.36, step by step and with nothing of the server's code, for
tests that compare the two over all combinations. A spec is a `Form`; an outcome is a `Form`, too, in which an address
that the server chooses is `*IPv4` or `*IPv6`, or a list of causes `(reason, field, message)`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

Cause = tuple[str, str, str]

RANGES = {"IPv4": "10.96.", "IPv6": "fd00:96::"}
SERVERS = {"v4": ("IPv4",), "v6": ("IPv6",), "dual46": ("IPv4", "IPv6"), "dual64": ("IPv6", "IPv4")}
BAD_TEXTS = {
    "10.0.0.300": "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    "": "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    "10.096.1.1": "must not have leading 0s",
    "::ffff:10.96.1.1": "must not be an IPv4-mapped IPv6 address",
}
NO_IP = "None"
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
EXTERNAL, SINGLE, PREFER, REQUIRE = "ExternalName", "SingleStack", "PreferDualStack", "RequireDualStack"


@dataclass(frozen=True)
class Form:
    type: str = "ClusterIP"
    selector: bool = True
    policy: str | None = None
    families: list[str] = field(default_factory=list)
    ip: str = ""
    ips: list[str] = field(default_factory=list)

    @property
    def headless(self) -> bool:
        return self.ips == [NO_IP]


def said(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def invalid(path: str, value: Any, detail: str) -> Cause:
    return "FieldValueInvalid", path, f"Invalid value: {said(value)}: {detail}"


def unsupported(path: str, value: str, supported: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{each}"' for each in supported)
    return "FieldValueNotSupported", path, f"Unsupported value: {said(value)}: supported values: {listed}"


def family_of(ip: str) -> str:
    if ip.startswith("*"):
        return ip[1:]
    return "IPv6" if ":" in ip else "IPv4" if "." in ip else ""


def other(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"


# --- the block of rules about addresses, families and policy together


def block(new: Form, stored: list[str]) -> list[Cause]:
    """In the order of its rules; addresses in `stored` may have any text."""
    causes: list[Cause] = []
    if new.ip and not new.ips:
        causes.append(("FieldValueRequired", "spec.clusterIPs", "Required value"))
    elif new.ip and new.ip != new.ips[0]:
        causes.append(invalid("spec.clusterIPs", new.ips, "first value must match `clusterIP`"))
    elif new.ips and not new.ip:
        causes.append(invalid("spec.clusterIPs", new.ips, "must be empty when `clusterIP` is not specified"))
    for i, family in enumerate(new.families):
        if family not in RANGES:
            causes.append(unsupported(f"spec.ipFamilies[{i}]", family, ("IPv4", "IPv6")))
        if family in new.families[:i]:
            causes.append(("FieldValueDuplicate", f"spec.ipFamilies[{i}]", f"Duplicate value: {said(family)}"))
    if new.policy is not None and new.policy not in POLICIES:
        causes.append(unsupported("spec.ipFamilyPolicy", new.policy, POLICIES))
    texts = [cause for i, ip in enumerate(new.ips) for cause in _text(i, ip, new.ips, stored)]
    causes += texts
    if len(new.ips) > 2:
        causes.append(invalid("spec.clusterIPs", new.ips, "may only hold up to 2 values"))
    if texts:
        return causes
    if len(new.ips) > 1 and {family_of(ip) for ip in new.ips} != set(RANGES):
        causes.append(invalid("spec.clusterIPs", new.ips, "may specify no more than one IP for each IP family"))
    if not new.headless:
        for i, (ip, family) in enumerate(zip(new.ips, new.families, strict=False)):
            if family in RANGES and family_of(ip) != family:
                detail = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
                causes.append(invalid(f"spec.clusterIPs[{i}]", ip, detail))
    return causes


def _text(i: int, ip: str, ips: list[str], stored: list[str]) -> list[Cause]:
    if i == 0 and ip == NO_IP:
        return [] if len(ips) == 1 else [invalid("spec.clusterIPs", ips, "'None' must be the first and only value")]
    if ip in stored:
        return []
    detail = BAD_TEXTS[""] if ip == NO_IP else BAD_TEXTS.get(ip)
    return [] if detail is None else [invalid(f"spec.clusterIPs[{i}]", ip, detail)]


# --- steps A to L


def settle(new: Form, old: Form | None, server: tuple[str, ...]) -> tuple[Form, list[Cause], bool]:
    """The form with families, the causes that end the request here, and whether nothing had to be done (step A)."""
    if new.type == EXTERNAL:
        return new, [], False
    if (
        old is not None
        and (new.type, new.ips, new.families) == (old.type, old.ips, old.families)
        and new.policy == PREFER
        and old.policy in (PREFER, None)
    ):
        return new, [], True
    if new.policy is None:
        alone = new.ip == NO_IP and not new.selector
        new = replace(new, policy=(old and old.policy) or (REQUIRE if alone else SINGLE))
    causes = block(new, old.ips if old else [])
    if causes:
        return new, causes, False
    policy, families, ips = new.policy, list(new.families), list(new.ips)
    if old is not None and policy == SINGLE:
        ips = ips[:1] if ips == old.ips else ips
        families = families[:1] if families == old.families else families
    elif old is not None:
        for now, was, what in ((ips, old.ips, "cluster IP"), (families, old.families, "IP family")):
            if 0 < len(now) < len(was):
                detail = f"must be 'SingleStack' to release the secondary {what}"
                causes.append(invalid("spec.ipFamilyPolicy", policy, detail))
    for listed, what in ((ips, "cluster IPs"), (families, "IP families")):
        if policy == SINGLE and len(listed) == 2:
            detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            causes.append(invalid("spec.ipFamilyPolicy", policy, detail))
    for i in range(len(families), len(ips)):
        if ips[i] == NO_IP:
            break
        if family_of(ips[i]) in server:
            families.append(family_of(ips[i]))
        else:
            causes.append(
                invalid(f"spec.clusterIPs[{i}]", ips, f"{family_of(ips[i])} is not configured on this cluster")
            )
    new = replace(new, families=families, ips=ips)
    if causes:
        return new, causes, False
    if new.ip == NO_IP and not new.selector:
        return _completed(new, (server[0], other(server[0]))), [], False
    if policy == REQUIRE and len(server) < 2:
        detail = "this cluster is not configured for dual-stack services"
        causes.append(invalid("spec.ipFamilyPolicy", policy, detail))
    for i, family in enumerate(families):
        if family not in server:
            causes.append(invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster"))
    return (new, causes, False) if causes else (_completed(new, server), [], False)


def _completed(new: Form, available: tuple[str, ...]) -> Form:
    families = new.families or [available[0]]
    if new.policy != SINGLE and len(families) == 1 and len(available) == 2:
        families = [families[0], other(families[0])]
    return replace(new, families=families)


# --- addresses


def allocate(new: Form, old: Form | None, taken: set[str]) -> tuple[Form, list[Cause]]:
    """`taken` are addresses that others hold."""
    held = old if old is not None and old.type != EXTERNAL else None
    if new.type == EXTERNAL or (held or new).headless:
        return new, []
    start = len(held.families) if held else 0
    if start >= len(new.families):
        return new, []
    padded = new.ips + [""] * (len(new.families) - len(new.ips))
    shown = list(padded)
    for i in range(start, len(new.families)):
        ip = shown[i]
        if not ip:
            shown[i] = f"*{new.families[i]}"
            continue
        problem = "provided IP is already allocated" if ip in taken else ""
        if not ip.startswith(RANGES[family_of(ip)]):
            problem = "the provided network does not match the current range"
        if problem:
            return new, [
                invalid("spec.clusterIPs", shown_as(padded, shown, i), f"failed to allocate IP {ip}: {problem}")
            ]
    return replace(new, ips=shown, ip=shown[0]), []


def shown_as(padded: list[str], shown: list[str], i: int) -> list[str]:
    """Those before have been allocated when an address is refused."""
    return shown[:i] + padded[i:]


# --- validation of the rest


def rest(new: Form, stored: list[str], *, again: bool) -> list[Cause]:
    """`again`: the block of addresses has not been judged yet."""
    causes: list[Cause] = []
    if new.headless and new.type in ("LoadBalancer", "NodePort"):
        causes.append(invalid("spec.clusterIPs[0]", NO_IP, f"may not be set to 'None' for {new.type} services"))
    if new.type == EXTERNAL:
        present = {"clusterIPs": new.ips, "ipFamilies": new.families, "ipFamilyPolicy": new.policy is not None}
        detail = "Forbidden: may not be set for ExternalName services"
        causes += [("FieldValueForbidden", f"spec.{name}", detail) for name, there in present.items() if there]
    elif again:
        causes += block(new, stored)
    if new.type not in TYPES:
        causes.append(unsupported("spec.type", new.type, TYPES))
    return causes


def created(new: Form, server: str, taken: set[str]) -> Form | list[Cause]:
    """The outcome of a create whose other fields are right."""
    if new.ip and not new.ips:
        new = replace(new, ips=[new.ip])
    new, causes, _ = settle(new, None, SERVERS[server])
    if causes:
        return causes
    new, causes = allocate(new, None, taken)
    return causes or rest(new, [], again=False) or new


# --- updates


def updated(new: Form, old: Form, server: str, taken: set[str]) -> Form | list[Cause]:
    """The outcome of a PUT whose other fields are right. `old` is as it is shown."""
    if EXTERNAL not in (new.type, old.type):
        new = replace(new, ip=new.ip or old.ip, ips=new.ips or old.ips)
    if new.ip == old.ip:
        new = replace(new, ips=new.ips or old.ips)
    elif new.ips == old.ips:
        new = replace(new, ips=[new.ip] if new.ip else [])
    new, causes, untouched = settle(new, old, SERVERS[server])
    if causes:
        return causes
    if not untouched:
        new, causes = allocate(new, old, taken)
    if causes:
        return causes
    if new.type == EXTERNAL != old.type:
        new = _emptied(new, old)
    return _changes(new, old) + rest(new, old.ips, again=True) or new


def _emptied(new: Form, old: Form) -> Form:
    if (new.ip, new.ips) == (old.ip, old.ips):
        new = replace(new, ip="", ips=[])
    if new.families == old.families:
        new = replace(new, families=[])
    return replace(new, policy=None) if new.policy == old.policy else new


def _changes(new: Form, old: Form) -> list[Cause]:
    fixed = "may not change once set"
    if EXTERNAL in (new.type, old.type):
        return []
    causes: list[Cause] = []
    if not (new.headless and old.headless):
        if len(new.ips) == len(old.ips):
            pairs = enumerate(zip(new.ips, old.ips, strict=True))
            causes += [invalid(f"spec.clusterIPs[{i}]", new.ips, fixed) for i, (now, was) in pairs if now != was]
        elif new.ips[0] != old.ips[0]:
            causes.append(invalid("spec.clusterIPs[0]", new.ips, fixed))
    if not (new.headless or old.headless):
        if len(new.families) == len(old.families):
            changed = sum(now != was for now, was in zip(new.families, old.families, strict=True))
            causes += [invalid("spec.ipFamilies[0]", new.families, fixed)] * changed
        elif new.families[0] != old.families[0]:
            causes.append(invalid("spec.ipFamilies[0]", new.ips, fixed))
    return causes
