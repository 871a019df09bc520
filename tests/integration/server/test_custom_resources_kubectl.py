"""kubectl with kinds of charts' size: applied with their definitions, shown, explained, scaled, waited for."""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests import definitions
from tests.server_process import Server

JSON = dict[str, Any]

pytestmark = pytest.mark.timeout(180)
NAMES = [each["metadata"]["name"] for each in definitions.all_of_them()]
CERTIFICATE: JSON = {
    "apiVersion": "certs.example.com/v1",
    "kind": "Certificate",
    "metadata": {"name": "web"},
    "spec": {"secretName": "web-tls", "dnsNames": ["a.example.com"], "issuerRef": {"name": "ca"}},
}
POOL: JSON = {
    "apiVersion": "pools.example.com/v1",
    "kind": "WorkerPool",
    "metadata": {"name": "p"},
    "spec": {"size": 2},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("custom"))
    with server.running():
        listing = {"apiVersion": "v1", "kind": "List", "items": definitions.all_of_them()}
        server.kubectl("apply", "-f", "-", stdin=json.dumps(listing))
        server.kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in NAMES))
        applied(server, CERTIFICATE)
        applied(server, POOL)
        yield server


def applied(server: Server, obj: JSON, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return server.kubectl("apply", *words, "-f", "-", stdin=json.dumps(obj), check=check)


def output(server: Server, *words: str) -> str:
    return server.kubectl(*words).stdout


def test_columns_short_names_and_categories(server: Server) -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Issued",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = json.dumps({"status": {"conditions": [ready]}})
    server.kubectl("patch", "cert", "web", "--subresource=status", "--type=merge", "-p", status)
    header, row = output(server, "get", "cert", "-o", "wide").splitlines()
    assert header.split() == ["NAME", "READY", "SECRET", "ISSUER", "AGE"]
    assert row.split()[:4] == ["web", "True", "web-tls", "ca"]
    assert output(server, "get", "certs", "-o", "name").split() == ["certificate.certs.example.com/web"]
    assert output(server, "get", "cert", "--field-selector", "spec.secretName=web-tls", "-o", "name") != ""
    resources = output(server, "api-resources", "--api-group=certs.example.com", "--no-headers")
    assert [line.split()[:2] for line in resources.splitlines()] == [["certificates", "cert,certs"], ["issuers", "iss"]]


def test_explain_says_what_the_definition_says(server: Server) -> None:
    text = output(server, "explain", "certificate.spec.privateKey.algorithm")
    assert "ENUM:" in text
    assert "Ed25519" in text
    assert "-required-" in output(server, "explain", "certificate.spec")
    assert "routes" not in output(server, "explain", "issuer", "--recursive")
    assert "podAntiAffinity" in output(server, "explain", "issuer.spec.acme.solvers", "--recursive")
    assert "VERSION:    v1beta1" in output(server, "explain", "webroute", "--api-version=gateway.example.com/v1beta1")


def test_scale(server: Server) -> None:
    assert output(server, "scale", "workerpool", "p", "--replicas=4") == "workerpool.pools.example.com/p scaled\n"
    assert output(server, "get", "wp", "p", "-o", "jsonpath={.spec.size}") == "4"
    refused = server.kubectl("scale", "wp/p", "--replicas=101", check=False)
    assert "spec.size in body should be less than or equal to 100" in refused.stderr


def test_apply_from_the_server(server: Server) -> None:
    first = {**POOL, "metadata": {"name": "ssa"}, "spec": {"size": 2, "image": "a"}}
    assert applied(server, first, "--server-side").stdout == "workerpool.pools.example.com/ssa serverside-applied\n"
    second = {**first, "spec": {"image": "b"}}
    refused = applied(server, second, "--server-side", "--field-manager=other", check=False)
    assert 'conflict with "kubectl": .spec.image' in refused.stderr
    applied(server, second, "--server-side", "--field-manager=other", "--force-conflicts")
    assert output(server, "get", "wp", "ssa", "-o", "jsonpath={.spec.image}") == "b"


def test_unknown_and_invalid_fields_are_told(server: Server) -> None:
    odd = json.loads(json.dumps(CERTIFICATE))
    odd["metadata"]["name"] = "odd"
    odd["spec"]["colour"] = "red"
    assert 'strict decoding error: unknown field "spec.colour"' in applied(server, odd, check=False).stderr
    del odd["spec"]["colour"]
    odd["spec"] |= {"duration": "long", "privateKey": {"algorithm": "DSA"}, "revisionHistoryLimit": 0}
    lines = applied(server, odd, check=False).stderr.splitlines()
    assert 'The Certificate "odd" is invalid: ' in lines
    assert '* spec.duration: Invalid value: "long": spec.duration in body must be of type duration: "long"' in lines
    assert '* spec.privateKey.algorithm: Unsupported value: "DSA": supported values: "RSA", "ECDSA", "Ed25519"' in lines
    assert (
        "* spec.revisionHistoryLimit: Invalid value: 0: spec.revisionHistoryLimit in body should be greater than or equal to 1"
        in lines
    )


def test_applying_edits_and_diffs_like_built_in_kinds(server: Server) -> None:
    assert applied(server, CERTIFICATE).stdout == "certificate.certs.example.com/web unchanged\n"
    more = json.loads(json.dumps(CERTIFICATE))
    more["spec"]["dnsNames"] = ["a.example.com", "b.example.com"]
    difference = server.kubectl("diff", "-f", "-", stdin=json.dumps(more), check=False)
    assert (difference.returncode, "+  - b.example.com" in difference.stdout) == (1, True)
    assert applied(server, more).stdout == "certificate.certs.example.com/web configured\n"


def test_a_definition_and_its_object_in_one_breath(server: Server) -> None:
    crd = definitions.definition(
        "quick.example.com",
        "Thing",
        [definitions.version("v1", definitions.record(spec=definitions.record(a=definitions.TEXT)))],
    )
    thing = {"apiVersion": "quick.example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"a": "b"}}
    applied(server, crd)
    server.kubectl("wait", "--for=condition=Established", "crd/things.quick.example.com", "--timeout=60s")
    assert applied(server, thing).stdout == "thing.quick.example.com/t created\n"
    assert output(server, "delete", "crd", "things.quick.example.com", "--timeout=60s").endswith("deleted\n")
    gone = server.kubectl("get", "things.quick.example.com", check=False)
    assert (gone.returncode, "the server" in gone.stderr) == (1, True)
