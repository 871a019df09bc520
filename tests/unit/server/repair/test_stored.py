"""What of a changed Service must be looked at again."""

from __future__ import annotations

import msgspec

from twinstack.server.repair.stored import same_addresses


def value(*ips: str, **annotations: str) -> bytes:
    spec = {"clusterIP": ips[0], "clusterIPs": list(ips)} if ips else {"type": "ExternalName"}
    return msgspec.json.encode({"metadata": {"name": "web", "annotations": annotations}, "spec": spec})


def test_only_changes_of_addresses_count() -> None:
    assert same_addresses(value("10.96.0.1"), value("10.96.0.1", note="x"))
    assert not same_addresses(value("10.96.0.1"), value("10.96.0.1", "fd00::1"))
    assert not same_addresses(value(), value()), "nothing to go by: look"
    applied = {"last-applied": '{"spec":{"clusterIPs":["10.96.0.1"]}}'}
    assert not same_addresses(value("10.96.0.1", **applied), value("10.96.0.2", **applied))
