"""The OpenAPI v2 document, read back by a protobuf decoder of the test's own."""

from __future__ import annotations

import json

import yaml

from twinstack.api.resources import RESOURCES
from twinstack.server import openapi
from twinstack.server.messages import Request, Response, UserInfo

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

SERVICE_SPEC = "io.k8s.api.core.v1.ServiceSpec"

Message = dict[int, list[bytes]]


def ask(accept: str, etag: str = "") -> Response:
    headers = {"accept": accept} | ({"if-none-match": etag} if etag else {})
    return openapi.answer(
        Request(method="GET", path="/openapi/v2", query={}, headers=headers, body=b"", user=UserInfo(name="u"))
    )


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def message(data: bytes) -> Message:
    fields: Message = {}
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        assert key & 7 == 2, "every field of the document is length-delimited"
        size, at = varint(data, at)
        fields.setdefault(key >> 3, []).append(data[at : at + size])
        at += size
    assert at == len(data)
    return fields


def test_protobuf_says_for_every_kind_that_the_server_validates_fields() -> None:
    answer = ask(PROTOBUF)
    assert answer.content_type == "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    assert isinstance(answer.body, bytes)
    document = message(answer.body)
    assert document[1] == [b"2.0"]
    kinds = set()
    for named in message(document[8][0])[2]:
        item = message(named)
        assert item[1][0].startswith((b"/api/v1/", b"/apis/"))
        operation = message(message(item[2][0])[8][0])
        query = message(message(message(message(operation[8][0])[1][0])[2][0])[3][0])
        assert query == {2: [b"query"], 4: [b"fieldValidation"], 6: [b"string"]}
        extension = message(operation[13][0])
        assert extension[1] == [b"x-kubernetes-group-version-kind"]
        kind = yaml.safe_load(message(extension[2][0])[2][0])
        kinds.add((kind["group"], kind["version"], kind["kind"]))
    assert kinds == {(row.group, row.version, row.kind) for row in RESOURCES}


def test_json_says_the_same() -> None:
    for accept in ("application/json", "*/*", "text/html,application/json;q=0.9"):
        answer = ask(accept)
        assert answer.content_type == "application/json"
        assert isinstance(answer.body, bytes)
        document = json.loads(answer.body)
        assert document["swagger"] == "2.0"
        operation = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
        assert operation["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}


def test_definitions_are_the_same_in_both_forms() -> None:
    told, shown = ask(PROTOBUF).body, ask("application/json").body
    assert isinstance(told, bytes)
    assert isinstance(shown, bytes)
    definitions = json.loads(shown)["definitions"]
    named = {message(each)[1][0].decode(): message(message(each)[2][0]) for each in message(message(told)[9][0])[1]}
    assert named.keys() == definitions.keys()
    spec = {message(each)[1][0]: message(message(each)[2][0]) for each in message(named[SERVICE_SPEC][25][0])[1]}
    fields = definitions[SERVICE_SPEC]["properties"]
    assert {name.decode() for name in spec} == fields.keys()
    assert fields["ports"]["items"] == {"$ref": "#/definitions/io.k8s.api.core.v1.ServicePort"}
    assert message(message(spec[b"ports"][23][0])[1][0])[1] == [b"#/definitions/io.k8s.api.core.v1.ServicePort"]
    extensions = {message(each)[1][0]: message(message(each)[2][0])[2][0] for each in spec[b"ports"][31]}
    assert extensions[b"x-kubernetes-patch-merge-key"] == b'"port"'
    assert definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] == {
        "type": "string",
        "format": "int-or-string",
    }


def test_an_unchanged_document_is_304() -> None:
    headers = dict(ask(PROTOBUF).headers)
    assert ask(PROTOBUF, headers["ETag"]).status == 304
    assert ask("application/json", headers["ETag"]).status == 200


def test_no_acceptable_form_is_406() -> None:
    assert ask("application/com.github.proto-openapi.spec.v3@v1.0+protobuf").status == 406
