"""The plugin called as a runtime calls it, with its service and without, on real kernels and with Debian's plugins."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.node.cni.site import JSON, NODE_IPS, PREFIX, Refused, Site, addresses, fetch, serving

from twinstack.ip import Address
from twinstack.linux import namespaces
from twinstack.node.cni import errors

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SOAK = os.environ.get("TWINSTACK_TESTS") == "soak"
V4, V6 = "10.9.0.0/24", "fd00:9::/64"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        made.start_service()
        yield made
    finally:
        made.close()
    assert [name for name in os.listdir("/run/netns") if name.startswith(PREFIX)] == []


def run(path: Path, *command: str) -> str:
    done = subprocess.run(["nsenter", f"--net={path}", *command], check=True, capture_output=True, text=True)
    return done.stdout


def test_two_containers_reach_each_other_and_the_node_in_both_families(site: Site) -> None:
    config = site.configuration(V6, V4, cniVersion="1.1.0", dns={"nameservers": ["fd00::a"]})
    a, b = site.container("a"), site.container("b")
    first, second = site.call("ADD", config, "a"), site.call("ADD", config, "b")
    assert [ip["address"] for ip in first["ips"]] == ["fd00:9::2/128", "10.9.0.2/32"]  # as the configuration has it
    assert first["routes"] == [{"dst": "::/0", "gw": "fe80::1"}, {"dst": "0.0.0.0/0"}]
    assert first["dns"] == {"nameservers": ["fd00::a"]}
    assert [(i["name"], i.get("sandbox"), i["mtu"]) for i in first["interfaces"]][1] == ("eth0", str(a), 1500)
    conf = f"/proc/sys/net/ipv4/conf/{first['interfaces'][0]['name']}"
    assert run(site.node, "cat", f"{conf}/send_redirects", f"{conf}/rp_filter").split() == ["0", "0"]
    for address in addresses(first):
        with serving(a, address.family) as seen:
            for client in (b, site.node):
                assert fetch(client, address) == b"hello"
        assert seen[0] == str(next(each for each in addresses(second) if each.family is address.family))
    for name, result in (("a", first), ("b", second)):
        assert site.call("CHECK", config | {"prevResult": result}, name) == {}
        assert site.call("DEL", config | {"prevResult": result}, name) == {}
    assert site.leases() == site.links() == []


def test_a_second_add_is_refused_and_harms_nothing(site: Site) -> None:
    config = site.configuration(V4, V6)
    a = site.container("a")
    result = site.call("ADD", config, "a")
    with pytest.raises(Refused, match="already exists") as caught:
        site.call("ADD", config, "a")
    assert caught.value.code == errors.ALREADY_ADDED
    other = site.container("other")
    with pytest.raises(Refused, match="has been added") as caught:
        site.call("ADD", config, "a", namespace=str(other))
    assert caught.value.code == errors.ALREADY_ADDED
    assert len(site.leases()) == 1
    site.call("CHECK", config | {"prevResult": result}, "a")
    with pytest.raises(Refused, match="node's own") as caught:
        site.call("ADD", config, "node")
    assert caught.value.code == errors.INVALID_ENVIRONMENT
    with pytest.raises(Refused, match="failed to open netns"):
        site.call("ADD", config, "none")
    assert len(site.leases()) == len(site.links()) == 1
    namespaces.remove(a)


def test_del_succeeds_whatever_is_left(site: Site) -> None:
    config = site.configuration(V4, V6)
    a = site.container("a")
    site.call("ADD", config, "a")
    namespaces.remove(a)
    site.call("DEL", config, "a")  # the namespace is gone
    site.call("DEL", config, "a", namespace="")
    site.call("DEL", config, "never")
    assert site.leases() == site.links() == []
    shutil.rmtree(site.data)
    site.call("DEL", config, "a")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("in", "ip", "addr", "del", "fd00:9::2/128", "dev", "eth0"), "lacks fd00:9::2"),
        (("in", "ip", "link", "set", "eth0", "address", "0a:58:00:00:00:77"), "instead of"),
        (("in", "ip", "route", "del", "default"), "no IPv4 route"),
        (("in", "ip", "link", "del", "eth0"), "no interface eth0"),
        (("on", "ip", "route", "del", "10.9.0.2/32"), "no route to 10.9.0.2"),
        (("on", "ip", "-6", "route", "del", "fd00:9::2/128"), "no route to fd00:9::2"),
    ],
)
def test_check_looks_at_the_interface(site: Site, change: tuple[str, ...], problem: str) -> None:
    config = site.configuration(V4, V6)
    a = site.container("a")
    config["prevResult"] = site.call("ADD", config, "a")
    site.call("CHECK", config, "a")
    run(a if change[0] == "in" else site.node, *change[1:])
    with pytest.raises(Refused, match=problem) as caught:
        site.call("CHECK", config, "a")
    assert caught.value.code == errors.NOT_AS_ADDED
    with pytest.raises(Refused, match="has no addresses"):
        site.call("CHECK", config, "b", namespace=str(a))
    del config["prevResult"]
    with pytest.raises(Refused, match="prevResult is missing"):
        site.call("CHECK", config, "a")


@pytest.mark.parametrize("subnets", [("10.9.0.0/30", V6), (V4, "fd00:9::/126"), ("fd00:9::/126", V4)])
def test_exhaustion_of_one_family_leaks_nothing_of_the_other(site: Site, subnets: tuple[str, str]) -> None:
    config = site.configuration(*subnets, cniVersion="1.1.0")
    small = "IPv4" if "10.9.0.0/30" in subnets else "IPv6"
    held = ["a"] if small == "IPv4" else ["a", "b"]
    site.call("STATUS", config)
    for name in (*held, "late"):
        site.container(name)
    for name in held:
        site.call("ADD", config, name)
    before = site.leases()
    for _ in range(3):
        with pytest.raises(Refused, match=f"no free {small} address is left in .*: network pods") as caught:
            site.call("ADD", config, "late")
        assert caught.value.code == errors.NO_FREE_ADDRESS
    assert site.leases() == before
    assert len(site.links()) == len(held)
    with pytest.raises(Refused, match=f"no free {small} address") as caught:
        site.call("STATUS", config)
    assert caught.value.code == errors.NOT_AVAILABLE
    site.call("DEL", config, "a")
    site.call("STATUS", config)
    assert len(addresses(site.call("ADD", config, "late"))) == 2


def test_gc_removes_what_is_not_valid(site: Site) -> None:
    config = site.configuration(V4, V6, cniVersion="1.1.0")
    other = site.configuration("10.8.0.0/24", name="others")
    for name in ("a", "b", "c", "o"):
        site.container(name)
        site.call("ADD", other if name == "o" else config, name)
    valid = [{"containerID": "b", "ifname": "eth0"}]
    (site.data / "pods" / next(n for n in site.leases() if n.startswith("c"))).unlink()  # its link is still there
    site.call("GC", config | {"cni.dev/valid-attachments": valid})
    assert [name.split(":")[0] for name in site.leases()] == ["b"]
    assert len(site.links()) == 2
    assert len(site.leases("others")) == 1
    with pytest.raises(Refused, match="valid-attachments is missing"):  # nothing is valid? nobody said so
        site.call("GC", config)
    assert len(site.leases()) == 1


def test_lost_leases_are_found_again_in_the_kernel(site: Site) -> None:
    config = site.configuration(V4, V6)
    results = {}
    for name in ("a", "b"):
        site.container(name)
        results[name] = site.call("ADD", config, name)
    before = site.leases()
    shutil.rmtree(site.data)
    site.container("c")
    assert addresses(site.call("ADD", config, "c")) == [Address.parse("10.9.0.4"), Address.parse("fd00:9::4")]
    assert site.leases()[:2] == before
    site.call("CHECK", config | {"prevResult": results["a"]}, "a")
    for name in ("a", "b", "c"):
        site.call("DEL", config, name)
    assert site.leases() == site.links() == []


def test_what_runtimes_may_ask_for(site: Site) -> None:
    config = site.configuration(V4)
    config["runtimeConfig"] = {
        "mac": "0a:58:0a:00:00:07",
        "ipRanges": [[{"subnet": "fd00:7::/64", "exclude": ["fd00:7::/80"]}], [{"subnet": "10.7.0.0/24"}]],
        "ips": ["10.7.0.77/24"],
    }
    site.container("a")
    site.container("b")
    result = site.call("ADD", config, "a")
    assert [str(each) for each in addresses(result)] == ["fd00:7:0:0:1::", "10.7.0.77"]
    assert result["interfaces"][1]["mac"] == "0a:58:0a:00:00:07"
    with pytest.raises(Refused, match=r"requested address 10\.7\.0\.77 is taken"):
        site.call("ADD", config, "b")
    config["runtimeConfig"]["ips"] = ["10.99.0.1"]
    with pytest.raises(Refused, match=r"requested address 10\.99\.0\.1 is not in 10\.7\.0\.0/24"):
        site.call("ADD", config, "b")
    config["runtimeConfig"] = {"ips": ["fd00::1"]}
    with pytest.raises(Refused, match="not of a family of the network"):
        site.call("ADD", config, "b")
    assert len(site.leases()) == 1


def test_ports_of_the_node_in_both_families(site: Site) -> None:
    config = site.configuration(V4, V6)
    mapped = config | {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
    a, b = site.container("a"), site.container("b")
    mapped["prevResult"] = site.call("ADD", mapped, "a")
    site.call("ADD", config, "b")
    for address in addresses(mapped["prevResult"]):
        with serving(a, address.family):
            to = next(ip for ip in map(Address.parse, NODE_IPS) if ip.family is address.family)
            assert fetch(b, to, 8080) == fetch(site.node, to, 8080) == b"hello"
            if to == Address.parse(NODE_IPS[0]):
                assert fetch(site.node, "127.0.0.1", 8080) == b"hello"
    site.call("CHECK", mapped, "a")
    shutil.rmtree(site.data)  # then the tables themselves tell which ports lead to whom
    other = [{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": NODE_IPS[1]}]
    site.container("c")
    site.call("ADD", config | {"runtimeConfig": {"portMappings": other}}, "c")
    site.call("CHECK", mapped, "a")
    assert "8080" in run(site.node, "nft", "list", "ruleset")
    shutil.rmtree(site.data)
    site.call("DEL", mapped, "a")
    ruleset = run(site.node, "nft", "list", "ruleset")
    assert "8080" not in ruleset
    assert "5353" in ruleset
    site.call("DEL", config, "c")
    assert "twinstack-hostports" not in run(site.node, "nft", "list", "tables")


def bridge(site: Site, ipam: JSON, **fields: object) -> JSON:
    made = {"cniVersion": "1.0.0", "name": "bridged", "type": "bridge", "bridge": "br0", "isDefaultGateway": True}
    return made | {"ipam": ipam} | fields


def test_ipam_alone_for_debians_bridge(site: Site) -> None:
    ipam = site.configuration(V4, V6)["ipam"]
    config = bridge(site, ipam)
    a = site.container("a")
    site.container("b")
    first = site.call("ADD", config, "a")
    assert [ip["address"] for ip in first["ips"]] == ["10.9.0.2/24", "fd00:9::2/64"]
    assert [ip["gateway"] for ip in first["ips"]] == ["10.9.0.1", "fd00:9::1"]
    for address in addresses(first):
        with serving(a, address.family):
            assert fetch(site.node, address) == b"hello"
    site.call("CHECK", config | {"prevResult": first}, "a")
    shutil.rmtree(site.data)  # then the pinned namespaces tell who has what
    assert addresses(site.call("ADD", config, "b")) == [Address.parse("10.9.0.3"), Address.parse("fd00:9::3")]
    for name in ("a", "b", "b"):
        site.call("DEL", config, name)
    assert site.leases("bridged") == []


def test_behind_debians_bridge(site: Site) -> None:
    """Chained: it publishes ports of what the bridge made, and passes the result on."""
    ranges = [[{"subnet": V4}], [{"subnet": V6}]]
    first = bridge(site, {"type": "host-local", "ranges": ranges, "dataDir": str(site.directory / "host-local")})
    behind = {"cniVersion": "1.0.0", "name": "bridged", "type": "twinstack-cni", "ipam": {"dataDir": str(site.data)}}
    behind["runtimeConfig"] = {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
    a = site.container("a")
    result = site.call("ADD", first, "a")
    behind["prevResult"] = result
    assert {k: v for k, v in site.call("ADD", behind, "a").items() if k != "dns"} == {
        k: v for k, v in result.items() if k != "dns"
    }
    for address in addresses(result):
        with serving(a, address.family):
            to = next(ip for ip in NODE_IPS if Address.parse(ip).family is address.family)
            assert fetch(site.node, to, 8080) == b"hello"
    site.call("CHECK", behind, "a")
    for _ in range(2):
        site.call("DEL", behind, "a")
    assert site.leases("bridged@ports") == []
    site.call("DEL", first | {"prevResult": result}, "a")


def test_with_addresses_of_host_local(site: Site) -> None:
    store = site.directory / "host-local"
    ipam = {"type": "host-local", "ranges": [[{"subnet": V6}], [{"subnet": V4}]], "dataDir": str(store)}
    config = site.configuration() | {"ipam": ipam, "ipMasq": True}
    config["runtimeConfig"] = {}
    a = site.container("a")
    result = site.call("ADD", config, "a")
    assert [ip["address"] for ip in result["ips"]] == ["fd00:9::2/128", "10.9.0.2/32"]
    for address in addresses(result):
        with serving(a, address.family):
            assert fetch(site.node, address) == b"hello"
    assert "10.9.0.0/24" in run(site.node, "nft", "list", "ruleset")
    site.call("CHECK", config | {"prevResult": result}, "a")
    with pytest.raises(Refused):
        site.call("ADD", config, "a")
    site.call("DEL", config, "a")
    assert [name for name in os.listdir(store / "pods") if name[0] in "1f"] == []
    assert "twinstack-cni" not in run(site.node, "nft", "list", "tables")


def test_without_a_service(site: Site) -> None:
    site.stop_service()
    config = site.configuration(V4, V6)
    a = site.container("a")
    result = site.call("ADD", config, "a")
    with serving(a, addresses(result)[1].family):
        assert fetch(site.node, addresses(result)[1]) == b"hello"
    site.start_service()  # takes over what the others did
    site.call("CHECK", config | {"prevResult": result}, "a")
    site.call("DEL", config, "a")
    assert site.leases() == site.links() == []


def test_killed_at_any_moment_nothing_leaks(site: Site) -> None:
    """What DEL or GC cannot undo would be a leak: the service and lone calls are killed in the middle."""
    config = site.configuration("10.9.0.0/29", V6, cniVersion="1.1.0")
    dice = random.Random(7)
    site.container("a")
    for turn in range(40 if SOAK else 8):
        lone = turn % 2 == 0
        if lone:
            site.stop_service()
        process = site.begin("ADD", config, "a")
        killer = threading.Timer(dice.uniform(0.05, 0.12) if lone else dice.uniform(0, 0.01), lambda: None)
        killer.start()
        assert process.stdin is not None
        process.stdin.write(json.dumps(config).encode())
        process.stdin.close()
        process.stdin = None
        killer.join()
        if lone:
            process.kill()
        else:
            site.stop_service()
        process.communicate(timeout=60)
        site.start_service()
        if turn % 3:
            site.call("DEL", config, "a")
        else:
            site.call("GC", config | {"cni.dev/valid-attachments": []})
        assert site.leases() == site.links() == []


def test_many_adds_and_dels_leave_nothing(site: Site) -> None:
    count, at_once = (2000, 20) if SOAK else (30, 5)
    config = site.configuration("10.9.0.0/27", V6, ipMasq=True)
    for number in range(at_once):
        site.container(f"p{number}")

    def cycle(worker: int) -> set[tuple[Address, ...]]:
        seen = set()
        for _ in range(count // at_once):
            seen.add(tuple(addresses(site.call("ADD", config, f"p{worker}"))))
            site.call("DEL", config, f"p{worker}")
        return seen

    begun = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        seen = set().union(*pool.map(cycle, range(at_once)))
    print(f"{count} ADD and DEL in {time.monotonic() - begun:.1f} s")
    assert all(len(pair) == 2 for pair in seen)
    assert site.leases() == site.links() == []
    assert "twinstack-cni" not in run(site.node, "nft", "list", "tables")
