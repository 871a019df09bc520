"""Families and policies: the tables of KEP-563 as the API server answers them, on four kinds of server."""

from __future__ import annotations

from itertools import product

import pytest

from twinstack.api.core import ServiceSpec
from twinstack.api.errors import FieldError
from twinstack.ip import IPFamily
from twinstack.server.strategy.service_defaults import normalise_create
from twinstack.server.strategy.service_families import assign_families

V4, V6 = IPFamily.IPV4, IPFamily.IPV6
SERVERS = {"v4": (V4,), "v6": (V6,), "dual46": (V4, V6), "dual64": (V6, V4)}
POLICIES = {"-": None, "Single": "SingleStack", "Prefer": "PreferDualStack", "Require": "RequireDualStack"}
FAMILIES = {"-": [], "4": [V4], "6": [V6], "46": [V4, V6], "64": [V6, V4]}
IPS = {"4": "10.96.9.9", "6": "fd00:96::9"}
CODES = {
    "must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified": "E",
    "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified": "F",
    "IPv4 is not configured on this cluster": "G",
    "IPv6 is not configured on this cluster": "G",
    "this cluster is not configured for dual-stack services": "I",
    "not configured on this cluster": "J",
    "must be 'SingleStack' to release the secondary cluster IP": "D-ip",
    "must be 'SingleStack' to release the secondary IP family": "D-family",
}


def spec(policy: str = "-", families: str = "-", ips: str = "-", *, selector: bool = True) -> ServiceSpec:
    """`ips`: `4`, `64` … for addresses in that order, `None` for headless, `-` for no word of them."""
    addresses = ["None"] if ips == "None" else [IPS[digit] for digit in ips.strip("-")]
    made = ServiceSpec(
        type="ClusterIP",
        selector={"app": "x"} if selector else None,
        ip_family_policy=POLICIES[policy],
        ip_families=list(FAMILIES[families]),
        cluster_ip=addresses[0] if addresses else "",
        cluster_ips=addresses,
    )
    normalise_create(made)
    return made


def outcome(made: ServiceSpec, errors: list[FieldError]) -> str:
    """`Prefer 46`, or the codes of the errors with the index that the field names."""
    if not errors:
        policy = next(short for short, name in POLICIES.items() if name == made.ip_family_policy)
        return f"{policy} {''.join(family[-1] for family in made.ip_families)}"
    codes = []
    for error in errors:
        index = error.field[-2] if error.field.endswith("]") else ""
        message = error.body.split(": ", 2)[-1]
        codes.append((CODES.get(message) or message) + index)
    return " ".join(codes)


def create(made: ServiceSpec, server: str) -> str:
    return outcome(made, assign_families(made, None, SERVERS[server]))


# policy, families, then the outcome on each of SERVERS
CREATE = [
    ("-", "-", "Single 4", "Single 6", "Single 4", "Single 6"),
    ("-", "4", "Single 4", "J0", "Single 4", "Single 4"),
    ("-", "6", "J0", "Single 6", "Single 6", "Single 6"),
    ("-", "46", "F", "F", "F", "F"),
    ("-", "64", "F", "F", "F", "F"),
    ("Single", "-", "Single 4", "Single 6", "Single 4", "Single 6"),
    ("Single", "4", "Single 4", "J0", "Single 4", "Single 4"),
    ("Single", "6", "J0", "Single 6", "Single 6", "Single 6"),
    ("Single", "46", "F", "F", "F", "F"),
    ("Single", "64", "F", "F", "F", "F"),
    ("Prefer", "-", "Prefer 4", "Prefer 6", "Prefer 46", "Prefer 64"),
    ("Prefer", "4", "Prefer 4", "J0", "Prefer 46", "Prefer 46"),
    ("Prefer", "6", "J0", "Prefer 6", "Prefer 64", "Prefer 64"),
    ("Prefer", "46", "J1", "J0", "Prefer 46", "Prefer 46"),
    ("Prefer", "64", "J0", "J1", "Prefer 64", "Prefer 64"),
    ("Require", "-", "I", "I", "Require 46", "Require 64"),
    ("Require", "4", "I", "I J0", "Require 46", "Require 46"),
    ("Require", "6", "I J0", "I", "Require 64", "Require 64"),
    ("Require", "46", "I J1", "I J0", "Require 46", "Require 46"),
    ("Require", "64", "I J0", "I J1", "Require 64", "Require 64"),
]


@pytest.mark.parametrize("ips", ["-", "None"])
@pytest.mark.parametrize("row", CREATE, ids=lambda row: f"{row[0]}/{row[1]}")
def test_create_without_addresses(row: tuple[str, ...], ips: str) -> None:
    policy, families, *expected = row
    assert [create(spec(policy, families, ips), server) for server in SERVERS] == expected


# Headless without selector: the outcome does not depend on what is configured, only on which family is first.
SELECTORLESS = [
    ("-", "-", "Require 46", "Require 64"),
    ("-", "4", "Require 46", "Require 46"),
    ("-", "6", "Require 64", "Require 64"),
    ("-", "46", "Require 46", "Require 46"),
    ("Require", "-", "Require 46", "Require 64"),
    ("Require", "6", "Require 64", "Require 64"),
    ("Prefer", "-", "Prefer 46", "Prefer 64"),
    ("Prefer", "6", "Prefer 64", "Prefer 64"),
    ("Prefer", "64", "Prefer 64", "Prefer 64"),
    ("Single", "-", "Single 4", "Single 6"),
    ("Single", "4", "Single 4", "Single 4"),
    ("Single", "6", "Single 6", "Single 6"),
    ("Single", "46", "F", "F"),
]


@pytest.mark.parametrize("row", SELECTORLESS, ids=lambda row: f"{row[0]}/{row[1]}")
def test_headless_without_selector(row: tuple[str, ...]) -> None:
    policy, families, v4_first, v6_first = row
    found = [create(spec(policy, families, "None", selector=False), server) for server in SERVERS]
    assert found == [v4_first, v6_first, v4_first, v6_first]


# policy, families, addresses, then the outcome on dual46, dual64, v4
WITH_ADDRESSES = [
    ("-", "-", "4", "Single 4", "Single 4", "Single 4"),
    ("-", "-", "6", "Single 6", "Single 6", "G0"),
    ("Prefer", "-", "6", "Prefer 64", "Prefer 64", "G0"),
    ("Require", "-", "4", "Require 46", "Require 46", "I"),
    ("-", "-", "46", "E", "E", "E G1"),
    ("Prefer", "-", "64", "Prefer 64", "Prefer 64", "G0"),
    ("Require", "4", "46", "Require 46", "Require 46", "G1"),
    ("Prefer", "46", "4", "Prefer 46", "Prefer 46", "J1"),
    ("Single", "46", "46", "E F", "E F", "E F"),
]


@pytest.mark.parametrize("row", WITH_ADDRESSES, ids=lambda row: "/".join(row[:3]))
def test_create_with_addresses(row: tuple[str, ...]) -> None:
    policy, families, ips, *expected = row
    assert [create(spec(policy, families, ips), server) for server in ("dual46", "dual64", "v4")] == expected


@pytest.mark.parametrize(
    ("families", "ips", "index"), [("6", "4", 0), ("4", "6", 0), ("46", "64", 0), ("64", "46", 1), ("46", "6", 0)]
)
def test_addresses_must_be_of_the_named_families(families: str, ips: str, index: int) -> None:
    made = spec("Prefer", families, ips)
    errors = {error.field: error.body for error in assign_families(made, None, SERVERS["dual46"])}
    expected = FAMILIES[families][index]
    assert f"expected an {expected} value as indicated by `ipFamilies[{index}]`" in errors[f"spec.clusterIPs[{index}]"]


EVERYTHING = list(product(POLICIES, FAMILIES, ("-", "4", "6", "46", "64", "None"), (True, False), SERVERS))


@pytest.mark.parametrize("server", SERVERS)
def test_every_combination_is_right_or_refused_for_a_reason(server: str) -> None:
    for policy, families, ips, selector, where in EVERYTHING:
        if where == server:
            check_combination(policy, families, ips, selector, SERVERS[server])


def check_combination(policy: str, families: str, ips: str, selector: bool, configured: tuple[IPFamily, ...]) -> None:
    """Refused exactly if one of these reasons holds; otherwise the result has these properties."""
    made = spec(policy, families, ips, selector=selector)
    errors = assign_families(made, None, configured)
    selectorless = ips == "None" and not selector
    single = POLICIES[policy] == "SingleStack" or (policy == "-" and not selectorless)
    asked = FAMILIES[families]
    of_addresses = FAMILIES[ips] if ips != "None" else []
    named = asked + of_addresses[len(asked) :]
    reasons = (
        single and max(len(asked), len(of_addresses)) > 1,
        any(a is not b for a, b in zip(asked, of_addresses, strict=False)),
        not selectorless and any(family not in configured for family in named),
        not selectorless and policy == "Require" and len(configured) < 2,
    )
    case = (policy, families, ips, selector, configured)
    assert bool(errors) == any(reasons), (case, errors)
    if errors:
        return
    result = [IPFamily(family) for family in made.ip_families]
    assert result[: len(named)] == named, case
    assert named or result[0] is configured[0], case
    assert len(set(result)) == len(result), case
    dual = not single and (selectorless or len(configured) == 2)
    assert len(result) == (2 if dual else 1), case
    default = "RequireDualStack" if selectorless else "SingleStack"
    assert made.ip_family_policy == (POLICIES[policy] or default), case


def stored(policy: str, families: str, *, headless: bool = False, selector: bool = True) -> ServiceSpec:
    """A Service as it stands in the store."""
    return spec(policy, families, "None" if headless else families, selector=selector)


def update(new: ServiceSpec, old: ServiceSpec, server: str = "dual46") -> str:
    found = outcome(new, assign_families(new, old, SERVERS[server]))
    ips = "None" if new.cluster_ips == ["None"] else "".join("6" if ":" in ip else "4" for ip in new.cluster_ips)
    return found if found[0] in "DEF" else f"{found} {ips}"


DOWNGRADE = [
    # policy, families and addresses that the client sends for a stored Require 46
    ("Single", "46", "46", "Single 4 4"),
    ("Single", "46", "4", "Single 4 4"),
    ("Single", "4", "46", "Single 4 4"),
    ("Single", "4", "4", "Single 4 4"),
    ("Single", "-", "46", "Single 4 4"),
    ("Require", "46", "4", "D-ip"),
    ("Require", "4", "46", "D-family"),
    ("Prefer", "4", "4", "D-ip D-family"),
    ("-", "4", "4", "D-ip D-family"),
    ("-", "-", "46", "Require 46 46"),
    ("Prefer", "46", "46", "Prefer 46 46"),
    ("Single", "64", "46", None),
]


@pytest.mark.parametrize("row", DOWNGRADE, ids=lambda row: "/".join(row[:3]))
def test_leaving_dual_stack(row: tuple[str, str, str, str | None]) -> None:
    policy, families, ips, expected = row
    new = spec(policy, families, ips)
    if expected is None:  # a reversed list is not cut, and does not fit the addresses
        assert assign_families(new, stored("Require", "46"), SERVERS["dual46"])
    else:
        assert update(new, stored("Require", "46")) == expected


UPGRADE = [
    ("Prefer", "4", "4", "Prefer 46 4"),
    ("Require", "4", "4", "Require 46 4"),
    ("Require", "46", "4", "Require 46 4"),
    ("Require", "4", "46", "Require 46 46"),
    ("Prefer", "-", "4", "Prefer 46 4"),
    ("-", "46", "4", "F"),
    ("-", "4", "46", "E"),
    ("-", "4", "4", "Single 4 4"),
]


@pytest.mark.parametrize("row", UPGRADE, ids=lambda row: "/".join(row[:3]))
def test_becoming_dual_stack(row: tuple[str, ...]) -> None:
    policy, families, ips, expected = row
    assert update(spec(policy, families, ips), stored("Single", "4")) == expected


def test_headless_services_shrink_only_with_single_stack() -> None:
    old = stored("Require", "46", headless=True)
    assert update(spec("Require", "4", "None"), old) == "D-family"
    assert update(spec("Single", "46", "None"), old) == "Single 4 None"


def test_headless_families_left_out_are_those_of_the_server_again() -> None:
    old = stored("Require", "64", headless=True)
    assert update(spec("-", "-", "None"), old, "dual46") == "Require 46 None"


def test_prefer_is_left_alone_when_a_server_has_become_dual_stack() -> None:
    old = stored("Prefer", "4")
    assert update(spec("Prefer", "4", "4"), old, "dual46") == "Prefer 4 4"
    assert update(spec("Prefer", "-", "4"), old, "dual46") == "Prefer 46 4"  # families left out
    assert update(spec("-", "4", "4"), old, "dual46") == "Prefer 46 4"  # policy left out
    changed = spec("Prefer", "4", "4")
    changed.type = "NodePort"
    assert update(changed, old, "dual46") == "Prefer 46 4"


@pytest.mark.parametrize("server", SERVERS)
def test_what_was_assigned_is_stable(server: str) -> None:
    """Sending a stored Service back changes nothing, whatever it is."""
    for policy, families, selector, headless in product(POLICIES, FAMILIES, (True, False), (True, False)):
        old = spec(policy, families, "None" if headless else "-", selector=selector)
        if assign_families(old, None, SERVERS[server]):
            continue
        if not headless:
            old.cluster_ips = [IPS[family[-1]] for family in old.ip_families]
            old.cluster_ip = old.cluster_ips[0]
        new = ServiceSpec(
            type=old.type,
            selector=old.selector,
            cluster_ip=old.cluster_ip,
            cluster_ips=list(old.cluster_ips),
            ip_families=list(old.ip_families),
            ip_family_policy=old.ip_family_policy,
        )
        assert assign_families(new, old, SERVERS[server]) == []
        assert new == old


def test_external_name_is_not_touched() -> None:
    made = ServiceSpec(type="ExternalName", ip_families=["IPv9"])
    assert assign_families(made, None, SERVERS["v4"]) == []
    assert made == ServiceSpec(type="ExternalName", ip_families=["IPv9"])
