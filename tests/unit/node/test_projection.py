from __future__ import annotations

from typing import Any

import pytest
from tests.unit.node.building import pod

from twinstack.node.environment import Addresses, ConfigError, Source
from twinstack.node.projection import Content, Facts, TokenWish, check_path, files, shows_pod, sources, tokens
from twinstack.node.sources import Data

CONFIG, SECRET = Source("configMap", "m"), Source("secret", "s")
FACTS = Facts(
    Addresses(["10.244.1.2"], ["172.30.0.11"]),
    {CONFIG: Data({"a": b"1", "b": b"\xff\0"}), SECRET: Data({"k": b"v"}), Source("configMap", "gone"): None},
    {TokenWish("", 3600): b"token", TokenWish("other", 600): b"another"},
    {"cpu": "4", "memory": "8Gi"},
)


def made(volume: dict[str, Any], **spec: Any) -> dict[str, Content]:
    of = pod(**spec)
    of.metadata.labels = {"app": "shop", "a": 'x"y'}
    return files(of, {"name": "v", **volume}, FACTS)


def test_a_config_map() -> None:
    assert made({"configMap": {"name": "m"}}) == {"a": Content(b"1", 0o644), "b": Content(b"\xff\0", 0o644)}
    items = [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o400}]
    found = made({"configMap": {"name": "m", "items": items, "defaultMode": 0o600}})
    assert found == {"x/y": Content(b"1", 0o600), "z": Content(b"\xff\0", 0o400)}


def test_a_secret() -> None:
    assert made({"secret": {"secretName": "s", "defaultMode": 0o400}}) == {"k": Content(b"v", 0o400)}
    assert made({"secret": {"secretName": "s", "defaultMode": 0}}) == {"k": Content(b"v", 0)}


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "gone"}}, 'configmap "gone" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        (
            {"configMap": {"name": "m", "items": [{"key": "c", "path": "c"}]}},
            "configmap references non-existent config key: c",
        ),
        (
            {"secret": {"secretName": "s", "items": [{"key": "c", "path": "c"}]}},
            "references non-existent secret key: c",
        ),
    ],
)
def test_what_is_missing(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        made(volume)
    kind = next(iter(volume))
    assert made({kind: volume[kind] | {"optional": True}}) == {}


def test_the_pod_itself() -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o440},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}},
    ]
    assert made({"downwardAPI": {"items": items}}) == {
        "labels": Content(b'a="x\\"y"\napp="shop"', 0o644),
        "name": Content(b"web", 0o440),
        "cpu": Content(b"4000", 0o644),
    }
    with pytest.raises(ConfigError, match="container x not found"):
        made(
            {
                "downwardAPI": {
                    "items": [{"path": "a", "resourceFieldRef": {"containerName": "x", "resource": "limits.cpu"}}]
                }
            }
        )


def test_several_sources_in_one_volume() -> None:
    wish = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"serviceAccountToken": {"path": "t/2", "audience": "other", "expirationSeconds": 600}},
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    volume: dict[str, Any] = {"projected": {"sources": wish, "defaultMode": 0o420}}
    assert {path: content.data for path, content in made(volume).items()} == {
        "token": b"token",
        "t/2": b"another",
        "ca.crt": b"1",
        "k": b"v",
        "ns": b"default",
    }
    assert sources(volume) == {CONFIG, SECRET}
    assert tokens(volume) == {TokenWish("", 3600), TokenWish("other", 600)}
    assert shows_pod(volume)
    assert not shows_pod({"configMap": {"name": "m"}})
    assert sources({"emptyDir": {}}) == set()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../b", "..data", "..x/y", "a/.."])
def test_paths_stay_inside(path: str) -> None:
    with pytest.raises(ConfigError):
        check_path(path)
    with pytest.raises(ConfigError):
        made({"configMap": {"name": "m", "items": [{"key": "a", "path": path}]}})


@pytest.mark.parametrize("path", ["a", "a/b", ".a", "a..b", "a/..b"])
def test_paths(path: str) -> None:
    check_path(path)


def test_a_token_is_for_those_whom_the_pod_names() -> None:
    volume = {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}}
    assert made(volume)["token"] == Content(b"token", 0o644)
    assert made(volume, security_context={"runAsUser": 7})["token"] == Content(b"token", 0o600, 7)
    assert made(volume, security_context={"fsGroup": 9})["token"] == Content(b"token", 0o600)
