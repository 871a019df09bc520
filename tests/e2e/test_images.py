"""Images as their user handles them: loaded, run under their own name, replaced, removed; pulled with a password."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.cluster import Cluster, until
from tests.integration.node.images.registry import PASSWORD, USER, Registry, running
from tests.unit.node.images.making import FILE, Made, saved, tar

from twinstack.ip import Address

IMAGE = "tests/echo:1"
SERVE = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"]


def echo(text: str) -> Made:
    """A static HTTP server that says one thing."""
    program = shutil.which("busybox")
    assert program is not None
    base = tar([("bin/busybox", FILE, Path(program).read_bytes())], mode=0o755)
    return Made([base, tar([("www/index.html", FILE, text.encode())])], Entrypoint=SERVE)


@pytest.fixture
def cluster(dual: Cluster) -> Iterator[Cluster]:
    yield dual
    dual.kubectl("delete", "pod", "-l", "test=images", "-A", "--grace-period=1")
    dual.kubectl("delete", "namespace", "private", "--ignore-not-found")


def load(cluster: Cluster, directory: Path, made: Made, *tags: str) -> str:
    file = directory / "image.tar"
    file.write_bytes(saved(made, *tags))
    return cluster.twinstack("image", "load", "--name", cluster.name, str(file))


def run(cluster: Cluster, name: str, image: str, *flags: str) -> None:
    cluster.kubectl("run", name, f"--image={image}", "--labels=test=images", *flags)


def said(cluster: Cluster, name: str) -> set[str]:
    """What the pod answers at each of its addresses."""
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    ips = [Address.parse(each["ip"]) for each in cluster.get("pod", name)["status"]["podIPs"]]
    assert len(ips) == 2
    until(lambda: all(cluster.answers(ip) for ip in ips), "an answer of both families")
    return {cluster.ask(ip) for ip in ips}


def waiting(cluster: Cluster, name: str, *flags: str) -> dict[str, str]:
    statuses = cluster.get("pod", name, *flags)["status"].get("containerStatuses") or [{"state": {}}]
    return statuses[0]["state"].get("waiting") or {}


def events(cluster: Cluster, name: str, *flags: str) -> list[str]:
    found: list[Any] = cluster.get("events", f"--field-selector=involvedObject.name={name}", *flags)["items"]
    return [f"{event['reason']}: {event['message']}" for event in found]


def test_an_archive_is_loaded_run_replaced_and_removed(cluster: Cluster, tmp_path: Path) -> None:
    assert "docker.io/tests/echo:1: sha256:" in load(cluster, tmp_path, echo("one"), IMAGE)
    run(cluster, "echo", IMAGE)
    assert said(cluster, "echo") == {"one"}
    present = f'Pulled: Container image "{IMAGE}" already present on machine and can be accessed by the pod'
    until(lambda: present in events(cluster, "echo"), "the event")

    load(cluster, tmp_path, echo("two"), IMAGE)
    assert said(cluster, "echo") == {"one"}  # as long as it runs
    run(cluster, "echo-2", IMAGE)
    assert said(cluster, "echo-2") == {"two"}

    words = ("image", "remove", "--name", cluster.name, IMAGE)
    refused = cluster.twinstack(*words, expect=1)
    assert "is in use: containers of pod default/echo-2 are made of it" in refused
    cluster.kubectl("delete", "pod", "echo", "echo-2", "--grace-period=1")
    assert "removed docker.io/tests/echo:1" in until(lambda: removed(cluster, words), "a removal")
    listed = json.loads(cluster.twinstack("image", "list", "--name", cluster.name, "-o", "json"))
    assert [name for image in listed for name in image["names"]] == [
        "twinstack.local/busybox:latest",
        "twinstack.local/host:latest",
    ]
    layers = cluster.paths.images / "layers"
    assert len(list(layers.iterdir())) == 2  # busybox, and its size
    run(cluster, "echo-3", IMAGE, "--image-pull-policy=Never")
    until(lambda: waiting(cluster, "echo-3").get("reason") == "ErrImageNeverPull", "no image")


def removed(cluster: Cluster, words: tuple[str, ...]) -> str:
    """Empty while the pods' last files are there."""
    try:
        return cluster.twinstack(*words)
    except AssertionError as error:
        if "is in use" in str(error):
            return ""
        raise


def test_the_machine_s_busybox(cluster: Cluster) -> None:
    run(cluster, "box", "twinstack.local/busybox", "--restart=Never", "--", "sh", "-c", "ls /; id -u")
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/box", "--timeout=60s")
    assert {"bin", "etc", "tmp"} <= set(cluster.kubectl("logs", "box").split())
    assert "home" in cluster.kubectl("logs", "box")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_private_registry(cluster: Cluster, host: str) -> None:
    with running(host) as registry:
        registry.authentication = "basic"
        registry.push(echo(f"pulled over {host}"), "echo", "1")
        image = f"{registry.name}/echo:1"
        cluster.kubectl("create", "namespace", "private")
        run(cluster, "denied", image, "-n", "private")
        refusal = until(lambda: told(cluster, "denied", "pull access denied"), "a refusal")
        assert refusal.startswith(
            f'Failed: Failed to pull image "{image}": failed to pull and unpack image "{image}": '
        )
        give_password(cluster, registry)
        run(cluster, "allowed", image, "-n", "private")
        cluster.kubectl("wait", "--for=condition=Ready", "pod/allowed", "-n", "private", "--timeout=60s")
        pulled = until(lambda: told(cluster, "allowed", "Pulled: "), "the event")
        assert f'Successfully pulled image "{image}" in ' in pulled
        assert pulled.endswith(" bytes.")
        ips = cluster.get("pod", "allowed", "-n", "private")["status"]["podIPs"]
        until(lambda: cluster.answers(Address.parse(ips[0]["ip"])), "an answer")
        assert {cluster.ask(Address.parse(each["ip"])) for each in ips} == {f"pulled over {host}"}
        until(lambda: any(image in each["names"] for each in shown(cluster)), "the image in a Node's status")
        cluster.kubectl("delete", "pod", "--all", "-n", "private", "--grace-period=1")
    until(lambda: removed(cluster, ("image", "remove", "--name", cluster.name, image)), "a removal")


def shown(cluster: Cluster) -> list[Any]:
    """The images that Nodes say they have."""
    return [image for node in cluster.get("nodes")["items"] for image in node["status"]["images"]]


def told(cluster: Cluster, name: str, words: str) -> str:
    """The first event with such words about a pod in the private namespace."""
    return next((text for text in events(cluster, name, "-n", "private") if words in text), "")


def give_password(cluster: Cluster, registry: Registry) -> None:
    """To all pods of the namespace, by way of their service account."""
    words = ("create", "secret", "docker-registry", "mine", "-n", "private", f"--docker-server={registry.name}")
    cluster.kubectl(*words, f"--docker-username={USER}", f"--docker-password={PASSWORD}")
    patch = json.dumps({"imagePullSecrets": [{"name": "mine"}]})
    cluster.kubectl("patch", "serviceaccount", "default", "-n", "private", "-p", patch)


def test_a_machine_without_a_way_out(cluster: Cluster) -> None:
    run(cluster, "far", "registry.twinstack.invalid/app:1")
    until(lambda: waiting(cluster, "far").get("reason") == "ImagePullBackOff", "a pause")
    message = waiting(cluster, "far")["message"]
    assert message.startswith('Back-off pulling image "registry.twinstack.invalid/app:1": ErrImagePull: failed to pull')
    assert "lookup registry.twinstack.invalid: no such host" in message
    assert "`twinstack image load FILE`" in message
    failures = {"Failed: Error: ErrImagePull", "Failed: Error: ImagePullBackOff"}
    until(lambda: failures <= set(events(cluster, "far")), "the events")
    attempts = [text for text in events(cluster, "far") if text.startswith("Pulling: ")]
    assert attempts == ['Pulling: Pulling image "registry.twinstack.invalid/app:1"']
