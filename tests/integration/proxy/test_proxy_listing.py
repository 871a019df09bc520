"""What `nft list` shows of every class of front end, in both families: the text that an operator reads.

After a change of the rules, look at what differs and write it anew: TWINSTACK_WRITE_LISTINGS=1.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from twinstack.ip import IPFamily
from twinstack.linux import namespaces
from twinstack.linux.nftables import Nftables, TableFlag
from twinstack.proxy.classes import DROP, GUARD, REJECT, Class, Kind
from twinstack.proxy.layout import Layout, PodInterface

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LISTINGS = Path(__file__).parent / "listings"
CHOOSING = [kind for kind in Kind if kind not in (Kind.GUARD, Kind.DROP, Kind.REJECT)]
VARIANTS = {
    "": {},
    "-masquerade-all": {"masquerade_all": True, "mark_bit": 3},
    "-bridge": {"pod_interface": PodInterface("cni0")},
    "-prefix": {"pod_interface": PodInterface("veth", is_prefix=True)},
}


FEW = (Class(Kind.CLUSTER, 3), Class(Kind.EXTERNAL_LOCAL, 3))  # the classes in which the variants differ


def classes() -> Iterator[Class]:
    yield Class(Kind.CLUSTER, 8192)
    for kind in CHOOSING:
        if kind.is_local or kind.near:
            yield Class(kind)
        yield from (Class(kind, 1), Class(kind, 3), Class(kind, 3, affinity=10800))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    path = namespaces.RUN_DIRECTORY / f"tt-G-{os.getpid()}-listing"
    namespaces.create(path, lambda: None)
    try:
        yield path
    finally:
        namespaces.remove(path)


def listing(place: Path, layout: Layout, made: Iterable[Class], *flags: str) -> str:
    connection = namespaces.inside(place, Nftables)
    shown = "ip6" if layout.family is IPFamily.IPV6 else "ip"
    try:
        more = [message for each in made for message in layout.create_chain(each)]
        connection.commit([*layout.create(TableFlag(0)), *more])
        command = ["nsenter", f"--net={place}", "nft", *flags, "list", "table", shown, layout.table.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        connection.commit([layout.table.delete()])
        return text
    finally:
        connection.close()


def chains(text: str) -> str:
    """The chains, and what sets and maps are declared as; elements have no order."""
    return re.sub(r"\n\s*elements = \{[^}]*\}", "", text)


@pytest.mark.parametrize("family", list(IPFamily))
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_what_nft_lists(place: Path, family: IPFamily, variant: str) -> None:
    layout = Layout(family, **VARIANTS[variant])  # type: ignore[arg-type]
    text = chains(listing(place, layout, FEW if variant else classes()))
    file = LISTINGS / f"{family.lower()}{variant}.nft"
    if os.environ.get("TWINSTACK_WRITE_LISTINGS"):
        LISTINGS.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("family", list(IPFamily))
def test_what_nft_lists_as_json(place: Path, family: IPFamily) -> None:
    found = json.loads(listing(place, Layout(family), classes(), "-j"))["nftables"]
    names = {each["chain"]["name"] for each in found if "chain" in each}
    assert {each.chain for each in (*classes(), DROP, REJECT, GUARD)} <= names
