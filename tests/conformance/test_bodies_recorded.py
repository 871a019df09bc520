"""Request bodies, stored forms and patches against what a real API server (kube-apiserver 1.36) made of them.

Each line of the samples is one case:

* `decoding`: a body with its media type and fieldValidation, and the refusal or the warnings that it met;
* `objects`: an object as the server showed it, with its type;
* `patches`: an object, a patch of it, and the outcome or the refusal.
"""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from twinstack.api.decoding import decode_object
from twinstack.api.errors import StatusError
from twinstack.api.resources import RESOURCES, Resource, resource
from twinstack.api.schema import check
from twinstack.server.patching import patched

JSON = dict[str, Any]


def _resource_of(type_name: str) -> Resource:
    found = next((row for row in RESOURCES if row.schema == type_name), None)
    return found or Resource(plural="", kind=type_name.rpartition(".")[2], schema=type_name)


def samples(name: str) -> list[JSON]:
    text = lzma.decompress(Path(__file__).with_name(f"{name}.jsonl.xz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("case", samples("decoding"), ids=lambda case: case["body"][:60])
def test_bodies_are_refused_or_warned_about(case: JSON) -> None:
    def decode() -> tuple[JSON, list[str]]:
        body = case["body"].encode()
        return decode_object(body, case["content_type"], resource(*case["resource"]), case["validation"])

    if case["refusal"] is None:
        assert decode()[1] == case["warnings"]
        return
    with pytest.raises(StatusError) as caught:
        decode()
    assert caught.value.message == case["refusal"]


@pytest.mark.parametrize("case", samples("objects"), ids=lambda case: case["type"])
def test_shown_objects_are_in_stored_form(case: JSON) -> None:
    assert check(case["object"], case["type"]) == (case["object"], [])


@pytest.mark.parametrize("case", samples("patches"), ids=lambda case: case["patch"][:60])
def test_patches(case: JSON) -> None:
    before = msgspec.json.encode(case["base"])

    def patch() -> tuple[JSON, list[str]]:
        body = case["patch"].encode()
        return patched(case["base"], body, case["content_type"], _resource_of(case["type"]), case["validation"])

    if "result" in case:
        assert patch()[0] == case["result"]
        assert msgspec.json.encode(case["base"]) == before
        return
    with pytest.raises(StatusError) as caught:
        patch()
    message = re.sub(r'Invalid value: "\{.*\}"(?=: )', 'Invalid value: "<object>"', caught.value.message)
    assert [caught.value.code, message] == case["refusal"]
