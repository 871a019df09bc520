from __future__ import annotations

from pathlib import Path

import pytest

from twinstack.ip import CIDR
from twinstack.node.podaddresses import NoFreeAddress, PodAddresses

V4, V6 = CIDR.parse("10.244.1.0/24"), CIDR.parse("fd00:10:244:1::/64")


def leases(directory: Path, *cidrs: CIDR) -> PodAddresses:
    made = PodAddresses(directory)
    made.configure(cidrs)
    return made


def texts(made: PodAddresses, uid: str) -> list[str]:
    return [str(address) for address in made.take(uid)]


def test_one_address_a_family_in_the_order_of_the_blocks(tmp_path: Path) -> None:
    assert texts(leases(tmp_path / "a", V4, V6), "p") == ["10.244.1.2", "fd00:10:244:1::2"]
    assert texts(leases(tmp_path / "b", V6, V4), "p") == ["fd00:10:244:1::2", "10.244.1.2"]
    assert texts(leases(tmp_path / "c", V6), "p") == ["fd00:10:244:1::2"]


def test_a_lease_outlives_the_agent(tmp_path: Path) -> None:
    first = leases(tmp_path, V4, V6)
    kept = first.take("p")
    first.take("q")
    first.give_back("q")
    again = leases(tmp_path, V4, V6)
    assert again.holders() == ["p"]
    assert again.get("p") == again.take("p") == kept
    assert not set(kept) & set(again.take("r"))


def test_a_freed_address_rests(tmp_path: Path) -> None:
    made = leases(tmp_path, V4)
    made.take("p")
    made.give_back("p")
    made.give_back("p")
    assert made.get("p") == []
    assert texts(made, "q") == ["10.244.1.3"]


def test_a_lease_is_completed(tmp_path: Path) -> None:
    leases(tmp_path, V6).take("p")
    (tmp_path / "half:eth0:10.244.1.9").write_text("{}")
    made = leases(tmp_path, V4, V6)
    assert texts(made, "p") == ["10.244.1.2", "fd00:10:244:1::2"]
    assert texts(made, "half") == ["10.244.1.9", "fd00:10:244:1::3"]


def test_nothing_is_taken_when_a_family_is_used_up(tmp_path: Path) -> None:
    made = leases(tmp_path, V6, CIDR.parse("10.0.0.0/30"))
    made.take("p")
    for _ in range(3):
        with pytest.raises(NoFreeAddress, match=r"no free IPv4 address is left in 10\.0\.0\.0/30"):
            made.take("q")
    made.give_back("p")
    assert texts(made, "q")[1] == "10.0.0.2"


def test_leases_of_another_block_stay(tmp_path: Path) -> None:
    leases(tmp_path, V4).take("p")
    made = leases(tmp_path, CIDR.parse("10.9.0.0/24"))
    assert texts(made, "p") == ["10.244.1.2"]
    assert texts(made, "q") == ["10.9.0.2"]
    made.give_back("p")
