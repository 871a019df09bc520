"""Images from a registry on loopback: both families, TLS, who may, what breaks off, who else asks."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.integration.node.images.registry import BASIC, PASSWORD, TOKEN, USER, Registry, proxying, running
from tests.unit.node.images.making import FILE, INDEX, Made, encode, sha256, tar

from twinstack.ip import Address
from twinstack.linux import namespaces
from twinstack.node.images import registry as client
from twinstack.node.images.access import Access
from twinstack.node.images.credentials import Credentials
from twinstack.node.images.errors import ImageError
from twinstack.node.images.pull import Puller
from twinstack.node.images.store import PARTIAL, Image, ImageStore
from twinstack.pki.ca import CertificateAuthority

NOISE = os.urandom(300_000)
LAYER = tar([("app", FILE, NOISE)])
MINE = Credentials(USER, PASSWORD)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


@pytest.fixture(scope="module")
def made() -> Made:
    return Made([LAYER, tar([("etc/x", FILE, b"x")])], layers=[gzip.compress(LAYER), tar([("etc/x", FILE, b"x")])])


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("tests")


def server_context(authority: CertificateAuthority, directory: Path, name: str = "localhost") -> ssl.SSLContext:
    loopback = [Address.parse("127.0.0.1"), Address.parse("::1")]
    certificate, key = authority.issue("registry", [], [name], loopback, server=True)
    (directory / "crt").write_bytes(certificate)
    (directory / "key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "crt", directory / "key")
    return context


def trust(authority: CertificateAuthority, registry: Registry, directory: Path) -> Access:
    place = directory / "certs.d" / registry.name
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(authority.certificate_pem)
    return Access(directory / "certs.d")


def pull(
    store: ImageStore, reference: str, credentials: Sequence[Credentials] = (), access: Access | None = None
) -> Image:
    return asyncio.run(Puller(store, access or Access()).pull(reference, credentials))


def failure(store: ImageStore, reference: str, credentials: Sequence[Credentials] = ()) -> str:
    with pytest.raises(ImageError) as caught:
        pull(store, reference, credentials)
    return str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("secure", [False, True])
def test_of_both_families_with_tls_and_without(
    store: ImageStore, tmp_path: Path, made: Made, authority: CertificateAuthority, host: str, secure: bool
) -> None:
    context = server_context(authority, tmp_path) if secure else None
    with running(host, context) as registry:
        access = trust(authority, registry, tmp_path) if secure else Access()
        registry.push(made, "me/app", "1")
        found = pull(store, f"{registry.name}/me/app:1", access=access)
        assert found == store.find(f"{registry.name}/me/app:1")
        assert found.digests == (f"{registry.name}/me/app@{sha256(made.manifest)}",)
        assert (found.layers[0] / "app").read_bytes() == NOISE
        assert len(registry.asked("/blobs/")) == 3
        assert pull(store, f"{registry.name}/me/app:1", access=access) == found
        assert pull(store, found.reference, access=access) == found
        assert len(registry.asked("/blobs/")) == 5  # the configuration, and no layer that is there
        assert os.listdir(store.root / "staging") == []


def test_by_way_of_a_proxy(
    store: ImageStore,
    tmp_path: Path,
    made: Made,
    authority: CertificateAuthority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "certs.d" / "registry.test"
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes(authority.certificate_pem)
    context = server_context(authority, tmp_path, "registry.test")
    with running("127.0.0.1", context) as registry, proxying(registry.server_address[1]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pw@127.0.0.1:{proxy.server_address[1]}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        registry.push(made, "app", "1")
        assert pull(store, "registry.test/app:1", access=Access(tmp_path / "certs.d")).names == ("registry.test/app:1",)
        assert set(proxy.asked) == {"CONNECT registry.test:443 HTTP/1.1"}
        proxy.refusal = "403 Not you"
        assert "proxyconnect tcp: 127.0.0.1:" in failure(store, "registry.test/app:2")
        assert pull(store, f"{registry.name}/app:1", access=Access(insecure=(registry.name,))).names  # on loopback


def test_a_certificate_of_nobody(
    store: ImageStore, tmp_path: Path, made: Made, authority: CertificateAuthority
) -> None:
    with running("127.0.0.1", server_context(authority, tmp_path)) as registry:
        registry.push(made, "app", "1")
        assert "tls: failed to verify certificate: " in failure(store, f"{registry.name}/app:1")
        assert registry.requests == []
        assert pull(store, f"{registry.name}/app:1", access=Access(insecure=(registry.name,))).names


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_who_may(store: ImageStore, made: Made, kind: str) -> None:
    with running() as registry:
        registry.authentication = kind
        registry.push(made, "a", "1")
        name = f"{registry.name}/a:1"
        assert "pull access denied, repository does not exist or may require authorization" in failure(store, name)
        text = failure(store, name, [Credentials(USER, "wrong-word")])
        assert text.startswith(f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": pull')
        assert "wrong-word" not in text
        assert pull(store, name, [Credentials(USER, "wrong"), MINE]).names == (name,)
        if kind == "bearer":
            scopes = [path for _, path, _ in registry.requests if path.startswith("/token")]
            assert scopes[-1] == "/token?service=tests&scope=repository%3Aa%3Apull"


def test_a_token_that_gets_another(store: ImageStore, made: Made) -> None:
    with running() as registry:
        registry.authentication = "bearer"
        registry.push(made, "a", "1")
        assert pull(store, f"{registry.name}/a:1", [Credentials(identity_token="long-lived")]).names
        [form] = [path for method, path, _ in registry.requests if method == "POST"]
        assert "grant_type=refresh_token&refresh_token=long-lived" in form


def test_blobs_that_are_elsewhere_are_got_without_a_name(store: ImageStore, made: Made) -> None:
    with running() as registry, running("::1") as other:
        registry.authentication = "basic"
        registry.push(made, "a", "1")
        other.blobs = registry.blobs
        registry.away = f"http://{other.name}"
        assert pull(store, f"{registry.name}/a:1", [MINE]).names
        assert len(other.requests) == 3
        assert all("Authorization" not in headers for _, _, headers in other.requests)
        assert all(headers["Authorization"] == BASIC for headers in registry.asked("/blobs/"))
        registry.away = "http://192.0.2.1"
        registry.push(Made([tar([("other", FILE, b"")])]), "b", "1")
        assert "is neither on loopback nor among the insecure registries" in failure(
            store, f"{registry.name}/b:1", [MINE]
        )


def test_a_blob_that_is_cut_off_is_gone_on_with(store: ImageStore, made: Made) -> None:
    with running() as registry:
        registry.push(made, "a", "1")
        registry.cut = [100_000, 50_000]
        registry.busy = 2
        found = pull(store, f"{registry.name}/a:1")
        assert (found.layers[0] / "app").read_bytes() == NOISE
        ranges = [headers["Range"] for headers in registry.asked("/blobs/") if "Range" in headers]
        assert ranges == ["bytes=100000-", "bytes=150000-"]


def test_the_next_pull_goes_on_where_the_last_gave_up(store: ImageStore, made: Made) -> None:
    with running() as registry:
        registry.push(made, "a", "1")
        registry.cut = [100_000] + [0] * client.ATTEMPTS
        assert "unexpected end after 100000 of" in failure(store, f"{registry.name}/a:1")
        assert [Path(name).suffix for name in os.listdir(store.root / "staging") if "lock" not in name] == [PARTIAL]
        registry.requests.clear()
        registry.cut = []
        assert pull(store, f"{registry.name}/a:1").names
        assert [headers["Range"] for headers in registry.asked("/blobs/") if "Range" in headers] == ["bytes=100000-"]


def test_what_is_not_what_its_digest_says(store: ImageStore, made: Made) -> None:
    with running() as registry:
        registry.push(made, "a", "1")
        name = sha256(made.layers[0])
        good = registry.blobs[name]
        registry.blobs[name] = bytes(len(good))
        assert f"and not {name}" in failure(store, f"{registry.name}/a:1")
        registry.blobs[name] = good + b"more"
        assert "bytes that were announced" in failure(store, f"{registry.name}/a:1")
        other = f"/v2/a/manifests/{sha256(b'other')}"
        registry.manifests[other] = made.manifest, ""
        assert "the registry's manifest has the digest" in failure(store, f"{registry.name}/a@{sha256(b'other')}")
        assert [found for found in store.images() if found.digests] == []
        registry.blobs[name] = good
        assert pull(store, f"{registry.name}/a:1").names


def test_an_index_of_platforms(store: ImageStore, made: Made) -> None:
    other = Made([LAYER], architecture="vax")
    index = encode({"mediaType": INDEX, "manifests": [other.descriptor, made.descriptor]})
    with running() as registry:
        for image in (made, other):
            registry.push(image, "a", "each")
        registry.add_manifest("a", "1", index, INDEX)
        found = pull(store, f"{registry.name}/a:1")
        assert found.id == sha256(made.config)
        assert found.reference == f"{registry.name}/a@{sha256(index)}"
        accepted = registry.asked("/manifests/1")[0]["Accept"]
        assert INDEX in accepted
        assert "manifest.v2+json" in accepted


def test_what_cannot_be_had(store: ImageStore) -> None:
    with running() as registry:
        name = f"{registry.name}/a:1"
        assert failure(store, name).endswith(f'failed to resolve reference "{name}": {name}: not found')
        registry.add_manifest("a", "1", encode({"schemaVersion": 1}), "")
        assert "manifest of schema 1" in failure(store, name)
        registry.add_manifest("a", "1", b"<html>", "text/html")
        assert "no JSON" in failure(store, name)
        registry.busy = 100
        assert "unexpected status 503" in failure(store, name)
    assert "twinstack.local is no registry" in failure(store, "twinstack.local/x:1")


def test_nobody_there_is_found_out_at_once(store: ImageStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    began = time.monotonic()
    text = failure(store, f"localhost:{port}/a:1")
    assert "connection refused" in text
    assert "127.0.0.1" in text
    assert "`twinstack image load FILE`" in text
    assert time.monotonic() - began < 30


def test_many_who_ask_for_one_image_ask_the_registry_once(store: ImageStore, made: Made) -> None:
    with running() as registry:
        registry.push(made, "a", "1")
        name = f"{registry.name}/a:1"

        async def together(pulls: Sequence[Coroutine[Any, Any, Image]]) -> list[Image]:
            return await asyncio.gather(*pulls)

        async def node() -> list[Image]:
            puller = Puller(store, Access())
            return await together([puller.pull(name) for _ in range(5)])

        async def nodes() -> list[Image]:
            return await together([Puller(store, Access()).pull(name) for _ in range(3)])

        assert len(set(asyncio.run(node()))) == 1
        assert len(registry.asked("/manifests/")) == 1
        assert len(registry.asked("/blobs/")) == 3
        store.remove(name)
        registry.requests.clear()
        assert len(set(asyncio.run(nodes()))) == 1
        layers = [sha256(layer) for layer in made.layers]
        assert [len(registry.asked(layer)) for layer in layers] == [1, 1]  # each of them on one node only


def test_one_who_no_longer_waits_stops_nobody_else(store: ImageStore, made: Made) -> None:
    with running() as registry:
        registry.push(made, "a", "1")

        async def main() -> Image:
            puller = Puller(store, Access())
            first = asyncio.create_task(puller.pull(f"{registry.name}/a:1"))
            second = asyncio.create_task(puller.pull(f"{registry.name}/a:1"))
            await asyncio.sleep(0)
            first.cancel()
            return await second

        assert asyncio.run(main()).names


def test_registries_are_reached_from_another_namespace(store: ImageStore, made: Made) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    own = namespaces.RUN_DIRECTORY / f"tt-S-{os.getpid()}"
    with running() as registry:
        registry.push(made, "a", "1")
        name = f"{registry.name}/a:1"

        async def from_here() -> str:
            with pytest.raises(ImageError) as caught:
                await Puller(store, Access()).pull(name)
            with pytest.raises(ImageError) as unknown:
                await Puller(store, Access()).pull("registry.example.org/a:1")
            assert "lookup registry.example.org: " in str(unknown.value)
            return str(caught.value)

        async def from_there() -> Image:
            return await Puller(store, Access(), Path(f"/proc/{os.getpid()}/ns/net")).pull(name)

        namespaces.create(own, lambda: None)
        try:
            assert "network is unreachable" in namespaces.inside(own, lambda: asyncio.run(from_here()))
            assert namespaces.inside(own, lambda: asyncio.run(from_there())).names == (name,)
        finally:
            namespaces.remove(own)


def test_a_token_is_not_shown() -> None:
    assert PASSWORD not in repr(MINE)
    assert TOKEN not in repr(Credentials(identity_token=TOKEN))
