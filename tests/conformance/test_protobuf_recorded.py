"""Protobuf bodies that kubectl, kubelet and the control plane 1.36 sent, and what a kube-apiserver made of them.

The server's answers are protobuf too: what was asked for must stand in them, defaults aside.
"""

from __future__ import annotations

import base64
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from twinstack.api.protobuf import decode
from twinstack.api.schema import check, type_of_kind

JSON = dict[str, Any]

RECORDING = Path(__file__).with_name("protobuf.jsonl.xz")
CASES = [json.loads(line) for line in lzma.decompress(RECORDING.read_bytes()).decode().splitlines()]
CHANGES = {"resourceVersion", "generation", "time"}  # by the write itself


def read(text: str) -> JSON:
    obj = decode(base64.b64decode(text))
    type_name = type_of_kind(obj["apiVersion"], obj["kind"])
    assert type_name is not None
    stored, findings = check(obj, type_name)
    assert findings == []
    return stored


def missing(asked: Any, shown: Any, path: str = "") -> list[str]:
    """Paths of what was asked for and is not shown."""
    if isinstance(asked, dict) and isinstance(shown, dict):
        return [
            found
            for key, value in asked.items()
            if key not in CHANGES
            for found in missing(value, shown.get(key), f"{path}.{key}")
        ]
    if isinstance(asked, list) and isinstance(shown, list) and len(asked) <= len(shown):
        return [
            found
            for i, (one, other) in enumerate(zip(asked, shown, strict=False))
            for found in missing(one, other, f"{path}[{i}]")
        ]
    return [] if asked == shown else [f"{path}: {asked!r}, not {shown!r}"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['client']} {case['path']}")
def test_bodies_are_read_as_the_server_read_them(case: JSON) -> None:
    asked, shown = read(case["body"]), read(case["answer"])
    assert asked["kind"] in shown["kind"]
    assert missing(asked, shown) == []


def test_a_service_made_by_kubectl() -> None:
    (body,) = [case["body"] for case in CASES if case["client"].startswith("kubectl")]
    assert read(body) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "namespace": "team", "labels": {"app": "a"}},
        "spec": {
            "ports": [{"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            "selector": {"app": "a"},
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }
