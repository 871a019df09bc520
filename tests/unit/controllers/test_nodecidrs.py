from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinstack.controllers.nodecidrs import FlagError, Misfit, NodeCIDRs, cluster_cidrs, node_masks, service_cidrs
from twinstack.ip import CIDR


def cidrs(*texts: str) -> list[CIDR]:
    return [CIDR.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Controller: Must specify --cluster-cidr if --allocate-node-cidrs is set"),
        (
            "10.0.0.0/16,10.1.0.0/16",
            "len of ClusterCIDRs==2 and they are not configured as dual stack (at least one from each IPFamily",
        ),
        ("10.0.0.0/16,fd00::/56,fd01::/56", "length of clusterCIDRs is:3 more than max allowed of 2"),
        ("10.0.0.0/16,x", "--cluster-cidr: not an IP address: 'x'"),
    ],
)
def test_cluster_cidr_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(FlagError) as caught:
        cluster_cidrs(text)
    assert str(caught.value) == message


def test_cluster_cidr_keeps_its_order() -> None:
    assert [str(block) for block in cluster_cidrs("fd00:10:244::/56, 10.244.0.0/16")] == [
        "fd00:10:244::/56",
        "10.244.0.0/16",
    ]


def test_service_ranges() -> None:
    assert service_cidrs("") == []
    assert service_cidrs("10.96.0.0/16,fd00::/112") == cidrs("10.96.0.0/16", "fd00::/112")
    with pytest.raises(FlagError, match="can not contain more than two entries"):
        service_cidrs("10.0.0.0/16,10.1.0.0/16,10.2.0.0/16")
    with pytest.raises(FlagError, match="--service-cluster-ip-range: not"):
        service_cidrs("x")


DUAL = cidrs("10.244.0.0/16", "fd00:10:244::/56")
ONLY4 = cidrs("10.244.0.0/16")
ONLY6 = cidrs("fd00:10:244::/56")


@pytest.mark.parametrize(
    ("clusters", "masks", "expected"),
    [
        (DUAL, (None, None, None), [24, 64]),
        (DUAL[::-1], (None, 25, 63), [63, 25]),
        (ONLY4, (26, None, None), [26]),
        (ONLY4, (None, 26, None), [26]),
        (ONLY6, (72, None, None), [72]),
        (ONLY6, (None, None, None), [64]),
    ],
)
def test_masks(clusters: list[CIDR], masks: tuple[int | None, ...], expected: list[int]) -> None:
    assert node_masks(clusters, *masks) == expected


@pytest.mark.parametrize(
    ("clusters", "masks", "message"),
    [
        (DUAL, (24, None, None), "usage of --node-cidr-mask-size is not allowed with dual-stack clusters"),
        (ONLY4, (24, 24, None), "please unset it and use IPFamily specific flags"),
        (ONLY6, (None, 24, None), "usage of --node-cidr-mask-size-ipv4 is not allowed for a single-stack IPv6 cluster"),
        (ONLY4, (None, None, 64), "usage of --node-cidr-mask-size-ipv6 is not allowed for a single-stack IPv4 cluster"),
        (ONLY4, (None, 15, None), "mask size of cluster CIDR must be less than or equal to --node-cidr-mask-size"),
        (ONLY4, (None, 33, None), "mask size of cluster CIDR must be less than or equal to --node-cidr-mask-size"),
        (cidrs("fd00::/47"), (None, None, 64), "New CIDR set failed; the node CIDR size is too big"),
    ],
)
def test_masks_that_cannot_be(clusters: list[CIDR], masks: tuple[int | None, ...], message: str) -> None:
    with pytest.raises(FlagError, match=message.replace("(", r"\(")):
        node_masks(clusters, *masks)


def texts(blocks: list[CIDR] | None) -> list[str]:
    assert blocks is not None
    return [str(block) for block in blocks]


def test_a_block_of_each_family_in_the_order_of_the_flag() -> None:
    pool = NodeCIDRs(DUAL[::-1], [64, 24])
    assert texts(pool.allocate("a")) == ["fd00:10:244::/64", "10.244.0.0/24"]
    assert texts(pool.allocate("b")) == ["fd00:10:244:1::/64", "10.244.1.0/24"]
    assert texts(pool.allocate("a")) == ["fd00:10:244::/64", "10.244.0.0/24"]  # asked again: the same


def test_a_released_block_rests_before_it_is_given_again() -> None:
    pool = NodeCIDRs(cidrs("10.0.0.0/22"), [24])
    for name in "abc":
        pool.allocate(name)
    pool.release("a")
    assert texts(pool.allocate("d")) == ["10.0.3.0/24"]
    assert texts(pool.allocate("e")) == ["10.0.0.0/24"]
    assert pool.allocate("f") is None
    pool.release("nobody")


def test_exhaustion_of_one_family_costs_the_other_nothing() -> None:
    pool = NodeCIDRs(cidrs("10.0.0.0/16", "fd00::/63"), [24, 64])
    assert texts(pool.allocate("a"))[1] == "fd00::/64"
    assert texts(pool.allocate("b"))[1] == "fd00:0:0:1::/64"
    for _ in range(300):
        assert pool.allocate("c") is None
    pool.release("a")
    assert pool.allocate("c") is not None


def test_service_ranges_inside_are_kept_out() -> None:
    pool = NodeCIDRs(cidrs("10.0.0.0/22"), [24], cidrs("10.0.0.0/23", "fd00::/112", "192.168.0.0/16"))
    assert texts(pool.allocate("a")) == ["10.0.2.0/24"]
    assert texts(pool.allocate("b")) == ["10.0.3.0/24"]
    assert pool.allocate("c") is None


def test_what_nodes_have_is_occupied_by_index_whatever_its_size() -> None:
    pool = NodeCIDRs(cidrs("10.0.0.0/21", "fd00::/62"), [24, 64])
    pool.occupy("big", ["10.0.0.0/23", "fd00::/63"])
    pool.occupy("single", ["10.0.2.0/26"])
    assert texts(pool.allocate("a")) == ["10.0.3.0/24", "fd00:0:0:2::/64"]
    pool.release("big")
    assert texts(pool.allocate("b"))[0] == "10.0.4.0/24"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (
            ["10.0.0.0/24", "fd00::/64", "fd01::/64"],
            "node:n has an allocated cidr: fd01::/64 at index:2 that does not exist in cluster cidrs configuration",
        ),
        (
            ["fd00::/64"],
            (
                "failed to mark cidr[fd00::/64] at idx [0] as occupied for node: n: "
                "cidr fd00::/64 is out the range of cluster cidr 10.0.0.0/16"
            ),
        ),
        (
            ["10.1.0.0/24"],
            (
                "failed to mark cidr[10.1.0.0/24] at idx [0] as occupied for node: n: "
                "cidr 10.1.0.0/24 is out the range of cluster cidr 10.0.0.0/16"
            ),
        ),
        (["x"], "failed to parse node n, CIDR x"),
    ],
)
def test_what_does_not_fit_is_said_and_marks_nothing(blocks: list[str], message: str) -> None:
    pool = NodeCIDRs(cidrs("10.0.0.0/16", "fd00::/56"), [24, 64])
    with pytest.raises(Misfit) as caught:
        pool.occupy("n", blocks)
    assert str(caught.value) == message
    assert texts(pool.allocate("a")) == ["10.0.0.0/24", "fd00::/64"]


_operation = st.tuples(st.sampled_from(["allocate", "release", "restart"]), st.integers(0, 9))


@settings(max_examples=150, deadline=None)
@given(st.lists(_operation, max_size=40))
def test_no_two_nodes_ever_share_an_address(operations: list[tuple[str, int]]) -> None:
    """Nodes come and go and the controller is restarted, knowing nothing but what the nodes say."""
    clusters, masks = cidrs("10.0.0.0/21", "fd00::/61"), [24, 64]
    pool = NodeCIDRs(clusters, masks)
    nodes: dict[str, list[CIDR]] = {}
    for operation, number in operations:
        name = f"n{number}"
        if operation == "allocate":
            blocks = pool.allocate(name)
            assert (blocks is None) == (name not in nodes and len(nodes) == 8)
            if blocks is not None:
                nodes[name] = blocks
        elif operation == "release":
            pool.release(name)
            nodes.pop(name, None)
        else:
            pool = NodeCIDRs(clusters, masks)
            for node, blocks in nodes.items():
                pool.occupy(node, [str(block) for block in blocks])
        held = [block for blocks in nodes.values() for block in blocks]
        assert len({str(block) for block in held}) == len(held)
